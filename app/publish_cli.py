"""`callwright flow publish` and what belongs to it: a client of the public API, like every other command that changes something."""

from __future__ import annotations

import json
import os
import time
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from app.cli_common import AsJson, State, fail, out, table, tell_json
from app.installation import HERE, Installed, fetch

if TYPE_CHECKING:
    from app.core.flow.program import Program
    from app.publish.diff import Change

Url = Annotated[
    str, typer.Option("--url", envvar="CALLWRIGHT_URL", help="an application elsewhere; its token comes from CALLWRIGHT_TOKEN alone")
]
Share = Annotated[float | None, typer.Option("--share", min=0, max=100, help="give it to this percentage of calls first")]
Numbers = Annotated[list[str] | None, typer.Option("--number", help="give it to callers with this number first; can be given often")]
GuardCalls = Annotated[int | None, typer.Option(min=1, max=200, help="calls after which it may be taken back by itself; 50 unless given")]
GuardMargin = Annotated[
    float | None, typer.Option(min=0, max=100, help="points that abandons, failures or defaults may be worse; 15 unless given")
]
Note = Annotated[str, typer.Option(help="why, for whoever looks at the versions later")]
PATIENCE = 120.0
"""Seconds that publishing may take: every new prompt is spoken first."""


def register(flow: typer.Typer) -> None:
    """Add the commands to the group `flow`."""
    for command in (publish, activate, versions, diff):
        flow.command()(command)
    flow.command("list")(flows)


def publish(
    file: Annotated[Path, typer.Argument(help="the flow's file")],
    share: Share = None,
    number: Numbers = None,
    guard_calls: GuardCalls = None,
    guard_margin: GuardMargin = None,
    note: Note = "",
    state: State = HERE,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Check a flow, give it the next number and make it the version that new calls run; calls that are up end on theirs.

    With --share or --number only those callers get it until it is activated, and it is taken back by itself when it does worse than the
    active version. Content that was a version before keeps its number. Exit status 1 when nothing was published.

    What the flow shares with others, automations.yaml and subflows, is read in the application's own project, and is part of the version.

    The files of the project are published in the same way when the application starts, where they have changed since it last did. So what
    was published or rolled back meanwhile stays, unless its file says something new.
    """
    from app.yamlfile import YamlError, parse_yaml

    try:
        text = file.read_bytes().decode()
        content = parse_yaml(text.encode()).content
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
    except YamlError as error:
        fail(f"{file}:{error.line}: {error}")
    name = content.get("flow") if isinstance(content, dict) else None
    if not isinstance(name, str) or not name:
        fail(f"{file}: flow: the name of the flow is missing")
    wish = _wish(share, number, guard_calls, guard_margin, note)
    body = {"yaml": text, "name": str(file)[-200:], **wish}
    _tell(ask_api(state, url, f"/v1/flows/{quote(name, safe='')}/versions", body), as_json)


def activate(
    flow: Annotated[str, typer.Argument(help="the flow's name")],
    version: Annotated[int, typer.Argument(min=1, help="the version's number")],
    share: Share = None,
    number: Numbers = None,
    guard_calls: GuardCalls = None,
    guard_margin: GuardMargin = None,
    note: Note = "",
    state: State = HERE,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Give a version to every new call: a canary that did well, or an older version to roll back."""
    wish = _wish(share, number, guard_calls, guard_margin, note)
    _tell(ask_api(state, url, f"/v1/flows/{quote(flow, safe='')}/versions/{version}/activate", wish), as_json)


def flows(state: State = HERE, url: Url = "", as_json: AsJson = False) -> None:
    """Every flow, with the version that callers get."""
    rows = ask_api(state, url, "/v1/flows")["flows"]
    if as_json:
        tell_json(rows)
        return
    told = table("flow", "title", "numbers", "active", "canary", "versions")
    for row in rows:
        told.add_row(row["name"], row["title"], " ".join(row["numbers"]), *(str(row[n] or "") for n in ("active", "canary", "versions")))
    out.print(told)


def versions(
    flow: Annotated[str, typer.Argument(help="the flow's name")], state: State = HERE, url: Url = "", as_json: AsJson = False
) -> None:
    """The versions of a flow, the newest first, with how their last calls went."""
    rows = ask_api(state, url, f"/v1/flows/{quote(flow, safe='')}/versions")["versions"]
    if as_json:
        tell_json(rows)
        return
    told = table("version", "state", "for", "live", "ended", "abandons", "failures", "defaults", "published", "by", "note")
    for row in rows:
        figures = (f"{row['figures'][name]:.0%}" if row["ended"] else "" for name in ("abandons", "failures", "defaults"))
        published = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["published_at"]))
        note = "; ".join(filter(None, (row["note"], row["why"])))
        told.add_row(
            str(row["number"]), row["state"], _for_whom(row), str(row["calls"]), str(row["ended"]), *figures, published, row["by"], note
        )
    out.print(told)


def diff(
    a: Annotated[str, typer.Argument(help="a file, or FLOW@NUMBER, or FLOW for its active version")],
    b: Annotated[str, typer.Argument(help="what to compare it with, given in the same way")],
    state: State = HERE,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """What changes for callers from A to B: which ways through the flow appear, vanish or change. Exit status 1 when anything does."""
    from app.publish.diff import differences

    changes = differences(_program(a, state, url), _program(b, state, url))
    if as_json:
        tell_json([change.told() for change in changes])
    else:
        _show_changes(changes)
    raise typer.Exit(1 if changes else 0)


def _show_changes(changes: list[Change]) -> None:
    if not changes:
        print("nothing changes for callers")
    for change in changes:
        ways = f"  ({change.ways} {'way' if change.ways == 1 else 'ways'} through the flow)" if change.ways else ""
        out.print(Text.assemble(change.text(), (ways, "dim")), soft_wrap=True)


def _program(name: str, state: Path, url: str) -> Program:
    """The program in a file, or of a version that the application has."""
    from app.core.flow.program import Program
    from app.publish.flowfile import load_program
    from app.publish.reading import ProjectError
    from app.publish.shared import Shared, project_of

    if Path(name).is_file():
        try:
            return load_program(Path(name), {}, shared=Shared(project_of(Path(name))))
        except ProjectError as error:
            fail(str(error))
    flow, _, number = name.partition("@")
    if name.endswith((".yaml", ".yml")) or (number and not number.isdecimal()):
        fail(f"{name}: there is no such file, and a version is given as FLOW@NUMBER")
    if not number:
        rows = {row["name"]: row for row in ask_api(state, url, "/v1/flows")["flows"]}
        if flow not in rows or rows[flow]["active"] is None:
            fail(f"{name}: there is no such file, and no flow of that name is active (there are: {', '.join(rows) or 'none'})")
        number = str(rows[flow]["active"])
    return Program.model_validate(ask_api(state, url, f"/v1/flows/{quote(flow, safe='')}/versions/{number}")["program"])


def _wish(share: float | None, numbers: list[str] | None, calls: int | None, margin: float | None, note: str) -> dict[str, Any]:
    guard = {name: value for name, value in (("calls", calls), ("margin", None if margin is None else margin / 100)) if value is not None}
    wish: dict[str, Any] = {"note": note} if note else {}
    if share is not None:
        wish["share"] = share
    if numbers:
        wish["numbers"] = numbers
    if guard:
        wish["guard"] = guard
    return wish


def _tell(version: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        tell_json(version)
    else:
        print(f"flow {version['flow']}: version {version['number']} is {version['state']} for {_for_whom(version)}")


def _for_whom(version: Mapping[str, Any]) -> str:
    """Which new calls a version is for."""
    if version["state"] != "canary":
        return "every new call" if version["state"] == "active" else "nobody"
    some = [f"{version['share']:g} % of calls"] if version["share"] else []
    count = len(version["numbers"])
    return " and ".join([*some, *([f"{count} {'number' if count == 1 else 'numbers'}"] if count else [])]) or "nobody"


def ask_api(state: Path, url: str, path: str, body: Any = None, method: str = "") -> Any:
    """Ask the application; ends the program where it refuses or does not answer."""
    installation = Installed(state)
    if url:
        base, token = url.rstrip("/"), os.environ.get("CALLWRIGHT_TOKEN", "")
    elif installation.config.exists():
        base, token = installation.api
    else:
        fail(f"nothing was started from {state} yet: run `callwright up`, or say --url where the application is")
    try:
        return fetch(base + path, token, body, method, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        fail(_refusal(error))
    except OSError as error:
        fail(f"the application does not answer: {getattr(error, 'reason', error)}; see `callwright status`")


def _refusal(error: urllib.error.HTTPError) -> str:
    """A problem document as lines."""
    text = error.read().decode(errors="replace")
    try:
        problem = json.loads(text)
        mistakes = [f"{each['at']}: {each['why']}" for each in problem.get("errors") or ()]
        return "\n".join(mistakes) or str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the application says {error.code}: {text[:300]}"
