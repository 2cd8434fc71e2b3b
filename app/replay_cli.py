"""`callwright replay`: a recorded call run again, all calls of a while under another version of their flow, or the whole centre.

What it takes to run them is imported only once it is asked for.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from app.cli_common import AsJson, State
from app.installation import HERE


def replay(
    call: Annotated[str | None, typer.Argument(help="the call's id, or how it begins")] = None,
    flow: Annotated[Path | None, typer.Option(help="run the calls of this flow's numbers under this file")] = None,
    centre: Annotated[bool, typer.Option("--centre", help="run everything again, the distribution of calls included")] = False,
    since: Annotated[str | None, typer.Option(help="today, yesterday, 3h, 2d, or a date and time such as 2026-03-01T08:00")] = None,
    until: Annotated[str | None, typer.Option(help="the same; now unless given")] = None,
    state: State = HERE,
    database: Annotated[str, typer.Option(help="a database instead of the installation's, as in the settings")] = "",
    key: Annotated[Path | None, typer.Option(help="its key file; callwright.key beside a SQLite file unless given")] = None,
    project: Annotated[
        Path | None, typer.Option(help="for --flow: the folder of actions and queues; the installation's unless given")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded calls again: one call, all calls of a flow under another version of it, or the whole centre.

    The application may run meanwhile. Keys, values and numbers are masked. Exit status 1 where something comes out otherwise than it was
    recorded, 2 where that cannot be known.
    """
    if sum((call is not None, flow is not None, centre)) != 1:
        raise typer.BadParameter("give one of: a call's id, --flow, --centre")
    from app import replay_shown
    from app.replaying import place_of
    from app.store import StoreError

    try:
        place = place_of(state, database, key)
        end = moment(until, "--until") if until else time.time()
        if call is not None:
            replay_shown.one(place, call, as_json)
        elif flow is not None:
            replay_shown.under(place, flow, project, moment(since or "yesterday", "--since"), end, as_json)
        else:
            replay_shown.whole(place, moment(since, "--since") if since else None, end, as_json)
    except (ValueError, StoreError) as error:
        replay_shown.refuse(str(error))


def moment(text: str, option: str, now: datetime | None = None) -> float:
    """A time as people write it, in this machine's zone, as epoch seconds."""
    now = now or datetime.now().astimezone()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        return (midnight - timedelta(days=text == "yesterday")).timestamp()
    units = {"m": 60, "h": 3600, "d": 86400}
    if text[-1:] in units and text[:-1].isdecimal():
        return now.timestamp() - int(text[:-1]) * units[text[-1]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        expected = "today, yesterday, 90m, 3h, 2d, or a date and time such as 2026-03-01T08:00"
        raise typer.BadParameter(f"{text!r} is no time: expected {expected}", param_hint=option) from None
