"""`callwright forget`: a client of the public API."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

import typer

from app.cli_common import AsJson, State, tell_json
from app.installation import HERE
from app.publish_cli import Url, ask_api


def forget(
    number: Annotated[str, typer.Argument(help="the number that the person called from, such as +4930123456")],
    state: State = HERE,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Forget a person for good: their number, what was said in their calls, their recordings. Facts without a person stay for reports.

    Exit status 1 where something is left: a call that still goes on, or what could not be deleted at once.
    """
    plain = re.sub(r"[\s()./-]", "", number)
    if not re.fullmatch(r"\+?[0-9A-Za-z]{1,40}", plain):
        raise typer.BadParameter(f"{number!r} is no telephone number", param_hint="NUMBER")
    told = ask_api(state, url, f"/v1/subjects/{quote(plain, safe='')}", method="DELETE")
    if as_json:
        tell_json(told)
    else:
        print(
            f"{told['number']}: {len(told['calls'])} calls forgotten, {told['recordings']} recordings and {told['prompts']} prompts deleted"
        )
        for line in (*(f"call {kept['call'][:8]} is kept: {kept['why']}" for kept in told["kept"]), *told["left"]):
            print(line)
    raise typer.Exit(1 if told["kept"] or told["left"] else 0)
