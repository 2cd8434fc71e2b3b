"""What `callwright replay` shows: tables for people, JSON for programs, and the exit status."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from app.core.flow.replay import Replayed
from app.core.flow.what_if import WhatIf
from app.core.replay_centre import CentreReplayed
from app.replaying import (
    Place,
    call_told,
    calls_under,
    difference_told,
    one_call,
    other_flow,
    told,
    verdict,
    what_if_told,
    whole_centre,
)
from app.store import Forgotten

T = TypeVar("T")
DIFFERENT, UNKNOWN = 1, 2
MANY = 20
"""Calls from which on progress is shown."""
VERDICTS = {
    "same way": "end the same, by the same way",
    "same end": "end the same, by another way",
    "other end": "end elsewhere",
    "undetermined": "cannot be known",
}
out, err = Console(highlight=False), Console(highlight=False, stderr=True)


def refuse(why: str) -> NoReturn:
    """Say why nothing can be replayed, and end."""
    err.print(f"callwright replay: {why}", markup=False, soft_wrap=True)
    raise typer.Exit(UNKNOWN)


# ---- one call ---------------------------------------------------------------------------------------------------------------


def one(place: Place, text: str, as_json: bool) -> None:
    """One call, then beside now."""
    began = time.perf_counter()
    try:
        again, hint = _run(one_call(place, text))
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="CALL") from None
    except Forgotten:
        refuse(f"call {text} was forgotten: its key was deleted, and nothing that it said can be read any more")
    if as_json:
        print(json.dumps(call_told(again, hint), indent=1))
    else:
        out.print(_side_by_side(again))
        _conclude(again, hint, time.perf_counter() - began)
    raise typer.Exit({"identical": 0, "different": DIFFERENT, "unknown": UNKNOWN}[verdict(again)])


def _side_by_side(again: Replayed) -> Table:
    """Each record with its time, then and now; the same is told once."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("since arrival", justify="right", style="cyan", no_wrap=True)
    table.add_column("recorded", overflow="fold")
    table.add_column("replayed", overflow="fold")
    began = again.recorded[0][3] if again.recorded else 0.0
    for n, record in enumerate(again.recorded):
        now = again.replayed[n] if n < len(again.replayed) else None
        if now is None and again.identical:
            break
        same = now is not None and told(now) == told(record)
        step = record[1] in ("StepEntered", "StepLeft")
        mark = Text("the same", "green") if same else Text(told(now) if now else "", "red")
        table.add_row(f"{record[3] - began:.3f} s", Text(told(record), "bold" if step else "" if record[0] == "c" else "dim"), mark)
        if now is None:
            break
    return table


def _conclude(again: Replayed, hint: str, seconds: float) -> None:
    kinds = [record[0] if record[1] not in ("StepEntered", "StepLeft") else record[1] for record in again.recorded]
    if again.identical:
        counts = (
            f"{kinds.count('StepEntered')} steps, {kinds.count('StepLeft')} exits, {kinds.count('c')} commands, {kinds.count('f')} facts"
        )
        out.print(f"[green]identical[/green]: {counts}, each at its time ({again.flow} {again.version}, {seconds:.2f} s)")
    elif again.difference is not None:
        began = again.recorded[0][3]
        out.print(f"[red]differs[/red] first after {again.difference.at - began:.3f} s: ", end="")
        out.print(difference_told(again.difference), markup=False, soft_wrap=True)
        if hint:
            out.print(f"since then {hint}", markup=False, soft_wrap=True)
    else:
        out.print("[yellow]cannot be known[/yellow]: ", end="")
        out.print(again.unknown, markup=False, soft_wrap=True)


# ---- many calls under another version -----------------------------------------------------------------------------------------


def under(place: Place, file: Path, project: Path | None, since: float, until: float, as_json: bool) -> None:
    """The calls of a flow under another version of it."""
    where = project or place.project
    if where is None:
        raise typer.BadParameter("give the project that has the flow's actions and queues", param_hint="--project")
    other = other_flow(file, where)
    if not other.program.dnis:
        raise typer.BadParameter(f"{file} has no numbers (dnis), so no calls are its own", param_hint="--flow")
    with Progress(console=err, transient=True, disable=as_json) as bar:
        task = bar.add_task("calls", total=None, visible=False)
        found = _run(calls_under(place, other, since, until, lambda n, of: bar.update(task, completed=n, total=of, visible=of >= MANY)))
    if as_json:
        rows = [what_if_told(one) for one in found]
        counts = {name: sum(row["verdict"] == name for row in rows) for name in VERDICTS}
        print(
            json.dumps(
                {"flow": other.name, "version": other.version, "since": since, "until": until, "counts": counts, "calls": rows}, indent=1
            )
        )
        return
    _summary(found, f"{other.name} {other.version}")
    _groups(found, "other end", "then and now", lambda one: _ends(what_if_told(one)))
    _groups(found, "same end", "first other step", lambda one: _first(what_if_told(one)))
    _groups(found, "undetermined", "from, and why", lambda one: f"{one.step or 'the beginning'}: {one.undetermined}")


def _summary(found: Sequence[WhatIf], version: str) -> None:
    out.print(f"{len(found)} calls under {version}", markup=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in VERDICTS.items():
        table.add_row(str(sum(one.verdict == name for one in found)), text)
    out.print(table)


def _groups(found: Sequence[WhatIf], name: str, title: str, tell: Callable[[WhatIf], str]) -> None:
    """The calls of one verdict, those that have the same to tell together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for one in found:
        if one.verdict == name:
            groups[tell(one)].append(one.call)
    if not groups:
        return
    table = Table("calls", title, "such as", title=VERDICTS[name], title_justify="left", box=None, pad_edge=False, header_style="bold")
    for text, calls in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        table.add_row(str(len(calls)), Text(text), ", ".join(call[:8] for call in calls[:3]))
    out.print(table)


def _first(row: dict[str, Any]) -> str:
    where = row.get("differs_at")
    return f"step {where['step']}: {where['then']} then, {where['now']} now" if where else "the same steps"


def _ends(row: dict[str, Any]) -> str:
    def end(end: dict[str, str]) -> str:
        return f"{end['outcome']} at {end['step']}" + (f", queue {end['queue']}" if end["queue"] else "")

    return f"{end(row['end'])} -> {end(row['other_end'])}; {_first(row)}"


# ---- the whole centre ---------------------------------------------------------------------------------------------------------


def whole(place: Place, since: float | None, until: float, as_json: bool) -> None:
    """The centre, identical or its first difference."""
    began = time.perf_counter()
    with Progress(console=err, transient=True, disable=as_json) as bar:
        task = bar.add_task("events", total=None)

        def progress(result: CentreReplayed) -> None:
            if result.events % 1000 == 0:
                bar.update(task, completed=result.events, description=f"{result.events} events")

        result = _run(whole_centre(place, since, until, progress))
    seconds = time.perf_counter() - began
    counts = {"events": result.events, "calls": result.calls, "processes": result.takeovers, "records": result.records}
    said = "" if result.difference is None else difference_told(result.difference)
    if as_json:
        found: dict[str, Any] = {"verdict": verdict(result), "since": result.since, "until": result.until, **counts}
        if result.difference is not None:
            found["difference"] = {"at": result.difference.at, "call": result.difference.call, "what": said}
        print(json.dumps(found | ({"unknown": result.unknown} if result.unknown else {}), indent=1))
    else:
        span = f"{_clock(result.since)} to {_clock(result.until)}" if result.since else "nothing"
        spoken = ", ".join(f"{count} {name}" for name, count in counts.items())
        out.print(f"{span}: {spoken} ({seconds:.2f} s)", markup=False)
        colour = {"identical": "green", "different": "red", "unknown": "yellow"}[verdict(result)]
        out.print(f"[{colour}]{verdict(result)}[/{colour}]", end=": " if said or result.unknown else "\n")
        if result.difference is not None:
            who = f"call {result.difference.call[:8]}" if result.difference.call else "the centre"
            out.print(f"first at {_clock(result.difference.at)}, {who}: {said}", markup=False, soft_wrap=True)
        elif result.unknown:
            out.print(result.unknown, markup=False, soft_wrap=True)
    raise typer.Exit({"identical": 0, "different": DIFFERENT, "unknown": UNKNOWN}[verdict(result)])


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
