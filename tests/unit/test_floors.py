"""Nothing climbs: every module of the house imports only what is on its own floor or below.

4  composition root and command line      may import everything
4  app/testing                            a composition root for tests: the core, publish and actions; pytest in its plugin alone
3  app/api, app/desk                      the core and themselves
2  app/pbx, actions, channels, store      the core and themselves, never one another
1  app/engine.py, app/publish             the core; the engine writes with the store, and that is the one way up
0  app/core                               the standard library without any way out of the process, pydantic, CEL, jinja2
-  app/watchdog.py, crm/                  nothing of the house
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = {
    *("main", "cli", "up", "house", "archive", "feed", "hooks", "flows", "decide", "settings", "proving", "replaying", "replay_shown"),
    *(
        "publish_cli",
        "new_cli",
        "action_cli",
        "forget_cli",
        "flow_cli",
        "replay_cli",
        "call_cli",
        "cli_common",
        "show_call",
        "installation",
    ),
    "__init__",
}
CORE_LIBRARIES = {"pydantic", "cel_expr_python", "jinja2"}
NO_WAY_OUT = {
    "asyncio",
    "concurrent",
    "datetime",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
WAYS_OUT = {"open", "exec", "eval", "__import__", "input", "print"}
BELOW: dict[str, set[str]] = {
    "core": {"core"},
    "yamlfile": set(),
    "publish": {"core", "publish", "yamlfile"},
    "engine": {"core", "store", "failpoints"},
    "failpoints": set(),
    "pbx": {"core", "pbx"},
    "actions": {"core", "actions", "yamlfile"},
    "channels": {"core", "channels"},
    "store": {"core", "store"},
    "api": {"core", "api"},
    "desk": {"core", "desk", "api"},
    "watchdog": set(),
    "testing": {"core", "publish", "actions", "yamlfile", "testing"},
}
TESTS_OF_PROJECTS = ("demo", "templates")
"""Folders of the application that hold projects: what is Python there are their own tests and bots, which import nothing of the house."""
BOTS = "app.demo.bots."


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no modules in {folder}"
    return [path for path in found if "node_modules" not in path.parts]


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything that a module imports, inside functions and for types too."""
    found = []
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "app").with_suffix("").parts[0]


def climbs(path: Path) -> list[str]:
    """What a module of the application imports from above its floor, each with its line."""
    part = part_of(path)
    if part in TESTS_OF_PROJECTS:
        house = [(line, name) for line, name in imports(path) if name.partition(".")[0] in ("app", "crm") and not name.startswith(BOTS)]
        return [f"{path.relative_to(ROOT)}:{line}: {name}" for line, name in house]
    if part in TOP:
        return []
    assert part in BELOW, f"{path}: on no floor; say in this test on which it belongs"
    wrong = []
    for line, name in imports(path):
        first, _, rest = name.partition(".")
        if first == "crm" or (first == "app" and rest.partition(".")[0] not in BELOW[part]):
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    return wrong


def leaks(path: Path) -> list[str]:
    """What a module of the core uses that reaches out of it: files, clocks, chance, the operating system."""
    wrong = []
    for line, name in imports(path):
        first = name.partition(".")[0]
        allowed = first == "app" or first in CORE_LIBRARIES or (first in sys.stdlib_module_names and first not in NO_WAY_OUT)
        if not allowed:
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "exec", "eval", "__import__", "input", "print"}
        ):
            wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.func.id}()")
    return wrong


def test_no_module_of_the_application_imports_from_above_its_floor() -> None:
    assert [wrong for path in sources("app") for wrong in climbs(path)] == []


def test_only_the_plugin_needs_pytest() -> None:
    needing = {path.name for path in sources("app/testing") for _, name in imports(path) if name.partition(".")[0] == "pytest"}
    everywhere = [path for path in sources("app") if any(name.partition(".")[0] == "pytest" for _, name in imports(path))]
    assert needing == {"plugin.py"}
    assert [path for path in everywhere if "tests" not in path.parts] == [ROOT / "app/testing/plugin.py"]


def test_nothing_of_the_application_needs_its_testing() -> None:
    above = [path for path in sources("app") if part_of(path) not in ("testing", "cli", *TESTS_OF_PROJECTS)]
    assert [f"{path}:{line}" for path in above for line, name in imports(path) if name.startswith("app.testing")] == []


def test_the_core_reaches_nothing_outside_itself() -> None:
    assert [wrong for path in sources("app/core") for wrong in leaks(path)] == []


def test_the_crm_knows_nothing_of_the_application() -> None:
    assert [f"{path}:{line}" for path in sources("crm") for line, name in imports(path) if name.partition(".")[0] == "app"] == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("app/core/bad.py", "import time"),
        ("app/core/bad.py", "from datetime import datetime"),
        ("app/core/flow/bad.py", "def f():\n    import os.path"),
        ("app/core/bad.py", "import orjson"),
        ("app/core/bad.py", "open('x')"),
    ],
)
def test_a_core_that_looks_outside_is_noticed(where: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    path.write_text(line, encoding="utf-8")
    assert len(leaks(path)) == 1


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("app/core/bad.py", "from app import engine"),
        ("app/core/bad.py", "from ..engine import Engine"),
        ("app/pbx/bad.py", "import app.actions.runner"),
        ("app/store/bad.py", "if True:\n    from app.engine import Engine"),
        ("app/publish/bad.py", "from app.actions.files import load_actions"),
        ("app/api/bad.py", "from app.house import House"),
        ("app/watchdog.py", "from app.core import events"),
        ("app/testing/bad.py", "from app.engine import Engine"),
        ("app/demo/tests/test_bad.py", "from app.testing.centre import VirtualCentre"),
    ],
)
def test_a_climb_is_noticed(where: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    path.write_text(line, encoding="utf-8")
    assert len(climbs(path)) == 1
