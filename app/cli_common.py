"""What the commands of the command line have in common: options, and how they tell things."""

from __future__ import annotations

import json
import sys
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

State = Annotated[
    Path, typer.Option("--state", envvar="CALLWRIGHT_STATE", help="where the installation of `callwright up` keeps everything")
]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON, for programs")]

out = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def tell_json(told: Any) -> None:
    """Something for programs."""
    print(json.dumps(told, indent=1, ensure_ascii=False))


def table(*columns: str, whole: Container[str] = ()) -> Table:
    """An empty table; columns in `whole` are never folded."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=column in whole, overflow="fold")
    return made


def fail(why: str, code: int = 1) -> NoReturn:
    """Say why nothing comes of a command, and end the program."""
    out.print(why, markup=False, soft_wrap=True)
    raise typer.Exit(code)
