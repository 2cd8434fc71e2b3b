"""`callwright new`: a project of one's own, made from a template that ships: flows, actions, queues, agents and tests."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from app.installation import DEMO

TEMPLATES = Path(__file__).parent / "templates"
HOTLINE = "order-status"
"""The template that is the demo itself."""
_LEFT_BEHIND = shutil.ignore_patterns("__pycache__", ".pytest_cache")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def templates() -> dict[str, Path]:
    """The folder of each template, by its name."""
    found = {path.parent.name: path.parent for path in sorted(TEMPLATES.glob("*/centre.yaml"))}
    return {HOTLINE: DEMO, **found}


def new(
    name: Annotated[Path, typer.Argument(help="the folder to make; its last part is the project's name")],
    template: Annotated[str, typer.Option(help=f"what to begin with: {', '.join(templates())}")] = "order-processing",
) -> None:
    """Make a project of your own, with flows, actions, queues, agents and tests that pass at once. Nothing is overwritten."""
    from app.core.flow.words import unknown

    known = templates()
    if template not in known:
        raise typer.BadParameter(unknown("template", template, known), param_hint="--template")
    if not _NAME.fullmatch(name.name):
        raise typer.BadParameter("the name has letters, digits, dots, - and _, and begins with a letter or digit", param_hint="NAME")
    try:
        make(name, known[template])
    except FileExistsError:
        raise typer.BadParameter(f"{name} is there already, and nothing is overwritten", param_hint="NAME") from None
    except OSError as error:
        raise typer.BadParameter(f"{name} cannot be made: {error.strerror or error}", param_hint="NAME") from None
    print(f"{name} is made of the template {template}. What to do next:")
    print(f"  callwright check {name}          # prove its flows over all their paths")
    print(f"  pytest {name}                    # play its calls without a telephone, in seconds")
    print(f"  callwright up --project {name}   # start it on this machine; call 1000")
    print(f"Then change {name / 'centre.yaml'}, {name / 'flows'} and {name / 'actions'}.")


def make(target: Path, template: Path) -> None:
    """Copy a template to a folder that is not there yet; raises `FileExistsError` for one that is, `OSError` for one that cannot be."""
    if target.is_symlink():
        raise FileExistsError(target)
    shutil.copytree(template, target, ignore=_LEFT_BEHIND)
    readme = target / "README.md"
    if readme.exists():
        title, rest = readme.read_text(encoding="utf-8").split("\n", 1)
        readme.write_text(f"# {target.name}\n\n{title.removeprefix('# ')}. {rest.lstrip()}", encoding="utf-8")
