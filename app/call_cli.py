"""`callwright show call`: the timeline of one call, out of the public API."""

from __future__ import annotations

import urllib.error
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli_common import AsJson, State, out, tell_json
from app.installation import HERE, Installed, fetch


def show_call(
    call: Annotated[str, typer.Argument(help="the call's id, or how it begins")],
    state: State = HERE,
    as_json: AsJson = False,
) -> None:
    """One call from its arrival on, a line for each thing that happened."""
    from app.show_call import lines, table

    installation = Installed(state)
    if not installation.config.exists():
        raise typer.BadParameter(f"nothing was started from {state} yet: run `callwright up`", param_hint="--state")
    try:
        timeline = fetch_timeline(installation, call)
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="CALL") from None
    except OSError as error:
        raise typer.BadParameter(f"the application does not answer: {getattr(error, 'reason', error)}", param_hint="--state") from None
    if as_json:
        tell_json(timeline)
    else:
        out.print(table(lines(timeline)))


def fetch_timeline(installation: Installed, call: str) -> list[dict[str, Any]]:
    """The timeline of a call by its id or the beginning of it; raises `LookupError` where that is no call or several, and `OSError`."""
    api, token = installation.api
    base = f"{api}/v1/calls"
    known = [row["id"] for row in fetch(f"{base}?state=all&limit=1000", token)["calls"]]
    found = sorted({known_id for known_id in known if known_id.startswith(call)} if call else set())
    if len(found) > 1 and call not in found:
        raise LookupError(f"{len(found)} calls begin with {call!r}: give more of the id")
    wanted = found[0] if len(found) == 1 else call
    try:
        return list(fetch(f"{base}/{quote(wanted, safe='')}/timeline", token)["entries"])
    except urllib.error.HTTPError as error:
        raise LookupError(f"there is no call {call!r}" if error.code == 404 else f"the application says {error.code}") from None
