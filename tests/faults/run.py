"""`python -m tests.faults.run [--only PATTERN]`: every fault case on a real Asterisk, one after another, with progress.

It can be stopped and started again: what has survived is not tried again, unless `--again` is given. The results are in
`build/faults.json`, a table of what survived is printed at the end. Exit status 1 when anything did not.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.e2e.house import LiveHouse
from tests.faults.case import Case
from tests.faults.cases import CASES
from tests.faults.kill_points import POINTS

RESULTS = Path("build/faults.json")
Results = dict[str, dict[str, Any]]


class Houses:
    """One installation for as long as the cases leave it clean, and a new one after a case that did not survive."""

    def __init__(self) -> None:
        self._house: LiveHouse | None = None

    def clean(self) -> LiveHouse:
        if self._house is None:
            self._house = LiveHouse(Path(tempfile.mkdtemp(prefix="callwright-faults-")))
            self._house.up()
        if self._house.installation.pid("application") is None:
            self._house.start()
        return self._house

    def end(self) -> None:
        if self._house is not None:
            self._house.down()
        self._house = None


def attempt(case: Case, houses: Houses) -> dict[str, Any]:
    """Try one case; the row of results that it makes."""
    house = houses.clean()
    began = time.monotonic()
    row: dict[str, Any] = {"survived": True, "load": round(os.getloadavg()[0], 1)}
    try:
        row.update(case.run(house))
    except Exception as error:
        row.update(survived=False, why=f"{type(error).__name__}: {error}"[:600], trace=traceback.format_exc()[-3000:])
        row["log"] = house.installation.last_words("application")[-3000:]
        houses.end()
    return {**row, "seconds": round(time.monotonic() - began, 1)}


def run(cases: Iterable[Case], results: Results, console: Console) -> None:
    """Try the cases, and keep each result at once."""
    houses = Houses()
    cases = list(cases)
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=len(cases))
            for case in cases:
                progress.update(task, description=case.name)
                results[case.name] = row = attempt(case, houses)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1))
                console.print(f"{'survived' if row['survived'] else '[red]LOST[/red]':<9} {case.name} {_short(row)}", highlight=False)
                progress.advance(task)
    finally:
        houses.end()


def _short(row: dict[str, Any]) -> str:
    said = {key: value for key, value in row.items() if key not in ("survived", "trace", "log", "why")}
    return " ".join(f"{key}={value}" for key, value in said.items()) + (f"\n          {row['why']}" if "why" in row else "")


def tables(results: Results) -> Iterable[Table]:
    """The kill matrix, step by point, and the other faults."""
    matrix = Table("step", *POINTS, title="A1: killed at each step", title_justify="left")
    steps = dict.fromkeys(name.split("/")[1] for name in results if name.startswith("A1/"))
    for step in steps:
        matrix.add_row(step, *(_mark(results.get(f"A1/{step}/{point}")) for point in POINTS))
    others = Table("fault", "survived", "measured", title="A2 to A7, B2, B7", title_justify="left")
    for name, row in results.items():
        if not name.startswith("A1/"):
            others.add_row(name, _mark(row), _short(row))
    return matrix, others


def _mark(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not tried"
    return f"yes {row['regained']} s" if row["survived"] and "regained" in row else "yes" if row["survived"] else "[red]NO[/red]"


def main() -> int:
    """The command line. A signal ends it in order, so that nothing is left running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description="Every fault case on a real Asterisk.")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="cases by name, such as 'A1/play/*'; may be repeated"
    )
    parser.add_argument("--again", action="store_true", help="also those that have survived before")
    parser.add_argument("--list", action="store_true", help="name the cases and do nothing")
    given = parser.parse_args()
    console = Console()
    chosen = [case for case in CASES if not given.only or any(fnmatch.fnmatch(case.name, pattern) for pattern in given.only)]
    if given.list or not chosen:
        console.print("\n".join(case.name for case in (chosen or CASES)))
        return 0 if chosen else 2
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    run([case for case in chosen if given.again or not results.get(case.name, {}).get("survived")], results, console)
    for table in tables(results):
        console.print(table)
    return 0 if all(results[case.name]["survived"] for case in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
