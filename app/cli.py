"""The command line: `callwright`. Each command is a client of what the other rooms offer; nothing is decided here."""

from __future__ import annotations

import gc
import logging
import sys
import time
import urllib.error
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from app.action_cli import action
from app.call_cli import show_call
from app.cli_common import AsJson, State, fail, out, table, tell_json
from app.flow_cli import flow, show_proven
from app.forget_cli import forget
from app.installation import DEMO, HERE, Installed, fetch
from app.new_cli import new
from app.publish_cli import register as register_publishing
from app.replay_cli import replay

if TYPE_CHECKING:
    from rich.table import Table

    from app.pbx.check import AsteriskAccess, Finding
    from app.settings import Settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A call centre as code, native to Asterisk.", pretty_exceptions_enable=False
)
show = typer.Typer(no_args_is_help=True, help="What goes on: calls, agents, queues.")
asterisk = typer.Typer(no_args_is_help=True, help="An Asterisk of your own.")
app.add_typer(show, name="show")
show.command("call")(show_call)
register_publishing(flow)
app.command("replay")(replay)
app.command("new")(new)
app.command("forget")(forget)
app.add_typer(asterisk, name="asterisk")
app.add_typer(flow, name="flow")
app.add_typer(action, name="action")
_BEGAN = time.monotonic()


def say(line: str) -> None:
    """One line of progress."""
    out.print(f"[dim]{time.monotonic() - _BEGAN:6.1f} s[/dim]  {line}", soft_wrap=True)


def configure_logging() -> None:
    """One JSON object a line on standard output, levels from info."""
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


@app.command()
def run(config: Annotated[Path | None, typer.Option(help="a TOML file of settings")] = None) -> None:
    """Run the application in the foreground, until SIGTERM."""
    gc.disable()
    from app.main import run as serve

    configure_logging()
    raise typer.Exit(serve(_settings(config)))


@app.command()
def up(state: State = HERE, project: Annotated[Path, typer.Option(help="the folder of flows, actions, queues and agents")] = DEMO) -> None:
    """Start everything on this machine, on loopback: Asterisk, CRM, mail catcher, application, watchdog."""
    from app.main import read_project
    from app.proving import prove_files
    from app.up import Installation, UpError, demo_lines

    installation = Installation(state, project)
    proven = prove_files(project)
    show_proven(proven)
    if proven.problems:
        raise typer.Exit(1)
    try:
        installation.up(say)
    except (UpError, RuntimeError, OSError) as error:
        out.print(f"[red]could not start:[/red] {error}", markup=True)
        raise typer.Exit(1) from None
    say("everything is up")
    for line in demo_lines(installation, sorted(read_project(project)[0].flows)):
        out.print(line, markup=False, soft_wrap=True)


@app.command("check")
def check_project(project: Annotated[Path, typer.Argument(help="the folder of flows, actions, queues and agents")] = DEMO) -> None:
    """Check a project's files and prove its flows without starting anything: every mistake, with its file and line."""
    from app.proving import prove_files

    proven = prove_files(project)
    show_proven(proven)
    book = proven.book
    if not proven.right or book is None:
        raise typer.Exit(1)
    numbers = ", ".join(sorted(book.flows))
    print(f"nothing wrong: flows for {numbers}; {proven.actions} actions, {len(book.queues)} queues, {len(book.agents)} agents")


@app.command()
def down(state: State = HERE) -> None:
    """Stop everything that `up` started."""
    from app.up import Installation

    Installation(state).down(say)
    say("everything is down")


@app.command()
def status(state: State = HERE, as_json: AsJson = False) -> None:
    """What runs and what does not, and why. Exit status 1 when something is not well."""
    rows = Installed(state).status()
    if as_json:
        tell_json([asdict(row) for row in rows])
    else:
        told = _table("part", "state", "pid", "address", "why")
        for row in rows:
            told.add_row(row.name, row.state, str(row.pid or ""), row.address, row.why)
        out.print(told)
    raise typer.Exit(0 if all(row.state == "running" for row in rows) else 1)


@show.command()
def calls(
    state: State = HERE, as_json: AsJson = False, everything: Annotated[bool, typer.Option("--all", help="ended calls too")] = False
) -> None:
    """The calls that are up; with --all those that have ended too."""
    rows = _ask(state, f"/v1/calls?state={'all' if everything else 'active'}")["calls"]
    if as_json:
        tell_json(rows)
        return
    told = _table("call", "state", "flow", "step", "caller", "queue", "position", "agent", "since", "outcome")
    for row in rows:
        position = "" if row["position"] is None else str(row["position"])
        since = (
            f"{time.time() - row['arrived']:.0f} s" if row["ended"] is None else time.strftime("%H:%M:%S", time.localtime(row["arrived"]))
        )
        told.add_row(
            row["id"][:8],
            row["state"],
            row["flow"],
            row["step"],
            _masked(row["ani"]),
            row["queue"],
            position,
            row["agent"],
            since,
            row["outcome"],
        )
    out.print(told)


@show.command()
def agents(state: State = HERE, as_json: AsJson = False) -> None:
    """Every agent, with what is in hand."""
    rows = _ask(state, "/v1/agents")["agents"]
    if as_json:
        tell_json(rows)
        return
    told = _table("agent", "name", "presence", "work", "reason", "phone", "call", "skills")
    for row in rows:
        skills = ", ".join(f"{name} {level}" for name, level in row["skills"].items())
        told.add_row(row["id"], row["name"], row["presence"], row["work"], row["reason"], row["phone"], row["call"][:8], skills)
    out.print(told)


@show.command()
def queues(state: State = HERE, as_json: AsJson = False) -> None:
    """Every queue, with who waits and who could serve."""
    rows = _ask(state, "/v1/queues")["queues"]
    if as_json:
        tell_json(rows)
        return
    told = _table("queue", "title", "waiting", "longest", "agents")
    for row in rows:
        able = ", ".join(f"{count} {name}" for name, count in sorted(row["agents"].items()))
        told.add_row(row["name"], row["title"], str(row["waiting"]), f"{row['longest_wait']:.0f} s", able)
    out.print(told)


@asterisk.command()
def check(
    config: Annotated[Path | None, typer.Option(help="the application's settings; those of --state unless given")] = None,
    state: State = HERE,
    etc: Annotated[Path | None, typer.Option(help="Asterisk's own configuration, /etc/asterisk for most")] = None,
    ari_url: Annotated[str | None, typer.Option(help="such as http://127.0.0.1:8088")] = None,
    ari_user: Annotated[str | None, typer.Option()] = None,
    ami_host: Annotated[str | None, typer.Option()] = None,
    ami_port: Annotated[int | None, typer.Option()] = None,
    ami_user: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """What an Asterisk lacks before it can work with us: each missing module, setting or permission, why, and how to mend it.

    Options win over the settings. Passwords are never options: they come from the settings, or from CALLWRIGHT_ARI__PASSWORD and
    CALLWRIGHT_AMI__SECRET. Nothing is changed anywhere. Exit status 1 when calls would not work, 0 when all is well or only unwise.
    """
    import asyncio

    from app.pbx.check import AsteriskAccess, check_asterisk

    file = config or (state / "callwright.toml" if (state / "callwright.toml").exists() else None)
    settings = _settings(file)
    of_ours = state / "asterisk" / "etc" if file and config is None else Path("/etc/asterisk")
    if etc is not None and not etc.is_dir():
        raise typer.BadParameter(f"{etc} is not a folder", param_hint="--etc")
    access = AsteriskAccess(
        ari_url or settings.ari.url,
        ari_user or settings.ari.user,
        settings.ari.password.get_secret_value(),
        ami_host=ami_host or settings.ami.host,
        ami_port=ami_port or settings.ami.port,
        ami_user=ami_user or (settings.ami.user if settings.ami.on else ""),
        ami_secret=settings.ami.secret.get_secret_value(),
        config=etc or (of_ours if of_ours.is_dir() else None),
        agi=settings.agi.on,
        tones=settings.ari.tones,
    )
    findings = asyncio.run(check_asterisk(access))
    if as_json:
        tell_json([asdict(finding) for finding in findings])
    else:
        _show_findings(findings, access)
    raise typer.Exit(1 if any(finding.level == "error" for finding in findings) else 0)


def _show_findings(findings: Sequence[Finding], access: AsteriskAccess) -> None:
    ami = f"AMI at {access.ami_host}:{access.ami_port}" if access.ami_user else "no AMI"
    out.print(f"looked at {access.ari_url}, {ami}, {access.config or 'no configuration files'}", markup=False, soft_wrap=True)
    if not findings:
        out.print("[green]nothing is missing[/green]")
        return
    told = _table("", "what", "why it matters", "how to mend it")
    for finding in findings:
        level = Text(finding.level, "red" if finding.level == "error" else "yellow")
        told.add_row(level, *map(Text, (finding.what, finding.why, finding.how_to_fix)))
    out.print(told)


def _settings(file: Path | None) -> Settings:
    """The settings; ends the program where they are wrong."""
    from app.main import WRONG
    from app.settings import read_settings

    try:
        return read_settings(file)
    except (ValueError, OSError) as error:
        print(f"callwright: the settings are wrong: {error}", file=sys.stderr)
        raise typer.Exit(WRONG) from None


def _ask(state: Path, path: str) -> Any:
    installation = Installed(state)
    if not installation.config.exists():
        fail(f"nothing was started from {state} yet: run `callwright up`")
    base, token = installation.api
    try:
        return fetch(base + path, token)
    except urllib.error.HTTPError as error:
        fail(f"the application says {error.code}: {error.read().decode(errors='replace')[:300]}")
    except OSError as error:
        fail(f"the application does not answer: {getattr(error, 'reason', error)}; see `callwright status`")


def _table(*columns: str) -> Table:
    return table(*columns, whole=_WHOLE)


_WHOLE = frozenset({"call", "state", "since", "outcome", "agent", "presence", "work", "part", "pid", "queue", "caller", "position"})


def _masked(number: str) -> str:
    return f"…{number[-2:]}" if number else ""


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
