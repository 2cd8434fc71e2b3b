"""`callwright action`: trying the actions of a project out, and making new ones from what other systems say of themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli_common import AsJson, fail, out, table, tell_json
from app.installation import DEMO
from app.installation import HERE as INSTALLED

if TYPE_CHECKING:
    from app.actions.draft import Draft
    from app.actions.method import ActionDef
    from app.actions.probe import Tried
    from app.settings import Settings

Project = Annotated[Path, typer.Option("--project", help="the folder whose actions/ these are")]
Config = Annotated[Path | None, typer.Option("--config", help="the settings: the section systems.<name> of each, and the allowed origins")]
HERE = INSTALLED / "callwright.toml"

action = typer.Typer(no_args_is_help=True, help="Actions: the methods of other systems that flows use.")


@action.callback()
def quietly() -> None:
    """Say what came of it, not how it went."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@action.command("test")
def try_one(
    name: Annotated[str, typer.Argument(help="connector.method")],
    given: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="parameters, with --live")] = None,
    live: Annotated[bool, typer.Option("--live", help="ask the live system; otherwise every sample is run")] = False,
    project: Project = DEMO,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run one action against the live system or its samples: its attributes (sensitive ones hidden), and how long it took.

    Exit status 1 when it failed, or when a sample does not hold.
    """
    import asyncio

    from app.actions.probe import spelled, try_live, try_samples

    definitions = _definitions(project)
    if name not in definitions:
        raise typer.BadParameter(f"there is no action {name!r}; there are: {', '.join(definitions) or 'none'}", param_hint="NAME")
    if given and not live:
        raise typer.BadParameter("parameters are for --live; samples have their own", param_hint="KEY=VALUE")
    if live:
        settings = _settings(config)
        try:
            params = spelled(definitions[name], _pairs(given or []))
            tried = [asyncio.run(try_live(definitions, name, params, settings.systems, settings.origins))]
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    else:
        tried = asyncio.run(try_samples(definitions, name))
    _tell(tried, as_json, live)
    raise typer.Exit(0 if all(one.well for one in tried) else 1)


@action.command("health")
def health_of_all(project: Project = DEMO, config: Config = None, as_json: AsJson = False) -> None:
    """Ask every system of record: each action that only reads with the parameters of its first good sample.

    Actions that write are not asked; of them it is checked that their settings are there. Exit status 1 when one does not answer well.
    """
    import asyncio

    from app.actions.probe import health

    settings = _settings(config)
    tried = asyncio.run(health(_definitions(project), settings.systems, settings.origins))
    if as_json:
        tell_json([_plain(one) for one in tried])
    else:
        told = table("action", "asked with", "outcome", "ms", "why")
        for one in tried:
            told.add_row(one.action, one.title, _coloured(one), str(one.ms or ""), Text(one.detail))
        out.print(told)
    raise typer.Exit(0 if all(one.well for one in tried) else 1)


@action.command("new")
def new(
    from_openapi_file: Annotated[Path | None, typer.Option("--from-openapi", help="an OpenAPI 3 document, JSON or YAML")] = None,
    operation: Annotated[str, typer.Option("--operation", help="the operationId in it")] = "",
    curl: Annotated[str, typer.Option("--from-curl", help="a curl line, in quotes")] = "",
    connector: Annotated[str, typer.Option("--connector", help="the connector's name; it is also that of its credentials")] = "system",
    method: Annotated[str, typer.Option("--name", help="the method's name; made of the operation or the address unless given")] = "",
    call: Annotated[bool, typer.Option("--call", help="really ask, and make the answer the sample")] = False,
    to: Annotated[Path | None, typer.Option("--out", help="a new file, such as actions/shop.yaml; standard output unless given")] = None,
    config: Config = None,
) -> None:
    """Make a complete action file: request, parameters, response attributes, authentication scheme, and a sample that holds.

    No secret of the curl line is in it; they go into the settings. With --call, an OpenAPI operation is asked with the settings' secrets.
    """
    import asyncio

    from app.actions.failures import Failed
    from app.actions.scaffold import add_answer, ask, from_curl, from_openapi, written

    if bool(from_openapi_file) == bool(curl):
        raise typer.BadParameter("give either --from-openapi or --from-curl")
    if to is not None and to.exists():
        raise typer.BadParameter(f"{to} exists already", param_hint="--out")
    try:
        draft = from_openapi(from_openapi_file, operation, connector, method) if from_openapi_file else from_curl(curl, connector, method)
        if call:
            draft = add_answer(draft, *asyncio.run(ask(draft, None if curl else _settings(config).systems)))
        text = written(draft)
    except (ValueError, OSError, Failed) as error:
        out.print(f"[red]no action could be made:[/red] {Text(str(error)).plain}", soft_wrap=True)
        raise typer.Exit(1) from None
    if to is None:
        print(text, end="")
    else:
        to.write_text(text, encoding="utf-8")
    _hints(draft, to, call)


def _hints(draft: Draft, to: Path | None, call: bool) -> None:
    told = Console(stderr=True, highlight=False)
    where = f"{to}: " if to else ""
    told.print(f"{where}{draft.connector}.{draft.method}", markup=False, soft_wrap=True)
    if draft.needs:
        told.print(f"its settings, under [systems.{draft.connector}]: {', '.join(draft.needs)}", markup=False, soft_wrap=True)
    told.print(f'and under origins: {{origin = "{draft.origin}"}}', markup=False, soft_wrap=True)
    if call:
        told.print("the sample holds what the system said: take out what is personal", soft_wrap=True)
    if not draft.answered:
        told.print("nothing is known of its answer: use --call, or write response and sample by hand", soft_wrap=True)


def _definitions(project: Path) -> dict[str, ActionDef]:
    from app.actions.files import ActionFileError, load_actions

    try:
        return load_actions(project / "actions")
    except ActionFileError as error:
        fail(str(error))


def _settings(config: Path | None) -> Settings:
    from app.settings import read_settings

    try:
        return read_settings(config or (HERE if HERE.exists() else None))
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--config") from None


def _pairs(given: Sequence[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise typer.BadParameter(f"expected key=value, found {pair!r}", param_hint="KEY=VALUE")
    return {name: value for name, _, value in (pair.partition("=") for pair in given)}


def _tell(tried: Sequence[Tried], as_json: bool, live: bool) -> None:
    if as_json:
        tell_json([_plain(one) for one in tried])
        return
    for one in tried:
        about = f"{one.action}, {one.title}" if not live else one.action
        out.print(Text.assemble((about, "bold"), ": ", _coloured(one), f" in {one.ms} ms", f"  {one.detail}" if one.detail else ""))
        values = Table.grid(padding=(0, 2))
        for name, value in one.values.items():
            values.add_row(f"  {name}", Text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
        if one.values:
            out.print(values)
        for problem in one.wrong:
            out.print(Text(f"  {problem}", "red"))


def _coloured(one: Tried) -> Text:
    return Text(one.outcome, "dim" if one.outcome == "not asked" else "green" if one.well else "red")


def _plain(one: Tried) -> dict[str, Any]:
    told = {"action": one.action, "title": one.title, "outcome": one.outcome, "detail": one.detail, "ms": one.ms, "well": one.well}
    return {**told, "values": dict(one.values), "wrong": list(one.wrong)}
