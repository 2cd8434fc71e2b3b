"""`callwright flow ...`: what is done with flows before anybody calls them. Other files hang their commands on `flow` too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli_common import AsJson, fail, out, tell_json
from app.installation import DEMO

if TYPE_CHECKING:
    from app.proving import Proven
    from app.publish.meaning import Context
    from app.publish.proofs import Report

flow = typer.Typer(no_args_is_help=True, help="Flows: proofs, pictures, versions, the schema for editors.")

Kind = Literal["flow", "subflow", "centre", "actions"]
Project = Annotated[Path | None, typer.Option(help="the folder of flows, actions, queues and agents; that of the files unless given")]


@flow.command("check")
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="flow files; all of the project unless given, or for a shared subflow")] = None,
    project: Project = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="also which ways round are allowed, and why")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove flows over all their paths; each mistake is shown with its line and a path on which it happens.

    That every step can be come to; that nobody goes round for ever; that no variable is read before it is set; that what fails ends with
    a person or a goodbye; that nobody waits in silence; that nothing takes effect twice; that some agent could serve each queue step; that
    sensitive values decide, say and show nothing. And how long it takes, at the longest, to a person or a goodbye.

    Exit status 1 for mistakes, 0 when there is none; warnings do not count.
    """
    from app.proving import as_dict, prove_files

    proven = prove_files(_project(project, paths), [_existing(path) for path in paths or ()])
    if as_json:
        tell_json({"problems": proven.problems, "flows": [as_dict(report) for report in proven.reports]})
    else:
        show_proven(proven)
        for report in proven.reports:
            _show_times(report, verbose)
    raise typer.Exit(0 if proven.right else 1)


@flow.command("show")
def show(
    flow_: Annotated[str, typer.Argument(metavar="FLOW", help="a flow's name, or its file")],
    project: Project = None,
    svg: Annotated[Path | None, typer.Option(help="draw it into this file")] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="as Mermaid, for pages that draw it")] = False,
) -> None:
    """Show a flow: as text, as Mermaid, or drawn into an SVG file."""
    from app.publish import drawing, sketch

    context = _context(flow_, project)
    if svg is not None:
        svg.write_text(drawing.svg(context), encoding="utf-8")
        out.print(f"{context.program.flow} is drawn in {svg}", markup=False, soft_wrap=True)
    else:
        print(sketch.mermaid(context) if mermaid else sketch.outline(context), end="")


@flow.command("schema")
def schema(of: Annotated[Kind, typer.Option(help="which files")] = "flow") -> None:
    """Print the JSON Schema of flow files, of shared subflows, of action files, or of centre.yaml, for editors that check as you type."""
    from app.actions.files import Connector
    from app.actions.method import Method
    from app.publish.schema import centre_schema, file_of_methods, flow_schema, subflow_schema

    if of == "actions":
        made = file_of_methods(Connector, Method)
    else:
        made = {"flow": flow_schema, "subflow": subflow_schema, "centre": centre_schema}[of]()
    tell_json(made)


def _context(name: str, project: Path | None) -> Context:
    """The flow of this name or file; ends the program where there is none, or where it is not right."""
    from app.actions.files import ActionFileError
    from app.core.flow.words import unknown
    from app.proving import read_flows
    from app.publish.reading import ProjectError

    file = Path(name)
    is_file = file.suffix in (".yaml", ".yml") and file.is_file()
    try:
        flows = read_flows(_project(project, [file] if is_file else None), [file] if is_file else ())
    except (ProjectError, ActionFileError) as error:
        fail(str(error))
    found = next((context for context in flows if is_file or context.program.flow == name), None)
    if found is None:
        fail(unknown("flow", name, (context.program.flow for context in flows)))
    return found


def show_proven(proven: Proven) -> None:
    """Every mistake and warning, a line or two each."""
    for problem in proven.problems:
        out.print(problem, markup=False, soft_wrap=True)
    for report in proven.reports:
        for finding in report.findings:
            out.print(str(finding), markup=False, soft_wrap=True, style="" if finding.level == "error" else "yellow")


def _show_times(report: Report, verbose: bool) -> None:
    found = f"{_count(len(report.errors), 'mistake')}, {_count(len(report.warnings), 'warning')}"
    longest = report.longest
    time = "has no bound" if longest.seconds is None else f"{longest.seconds:g} s"
    out.print(f"{report.flow} ({report.file}): {found}; longest time to a person or a goodbye: {time}", markup=False, soft_wrap=True)
    if longest.path:
        out.print(f"    {longest.path}", markup=False, soft_wrap=True, style="dim")
    for loop in report.loops if verbose else ():
        out.print(f"    allowed way round: {loop.path}: {loop.why}", markup=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _project(project: Path | None, paths: list[Path] | None) -> Path:
    """The folder of a project: the one given, or that in which the first file lies, in `flows` or `subflows`."""
    if project is not None:
        return project
    if not paths:
        return DEMO
    from app.publish.shared import project_of

    around = project_of(paths[0])
    if around is None:
        raise typer.BadParameter(f"{paths[0]} is in no project's folder of flows; say --project")
    return around


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise typer.BadParameter(f"{path} is not a file")
    return path
