"""The `pal` command: a few lines per command over flows, status and annotator; every help ends with an example."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.annotator_commands import commands as annotator_commands
from flows.cli.batch_commands import commands as batch_commands
from flows.cli.command_groups import GroupedHelp
from flows.cli.find_commands import commands as find_commands
from flows.cli.item_commands import commands as item_commands
from flows.cli.label_commands import labels as label_commands
from flows.cli.lake_commands import commands as lake_commands
from flows.cli.model_commands import commands as model_commands
from flows.cli.options import JsonOption, WorkspaceOption, print_json, project_at, show_batch
from flows.cli.output_commands import commands as output_commands
from flows.cli.service_commands import commands as service_commands
from flows.cli.simulation_commands import commands as simulation_commands
from flows.log_lines import listen
from storage.records import Split

app = typer.Typer(
    name="pal",
    cls=GroupedHelp,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Human-in-the-loop text classification: import texts, publish batches, ingest answers, train, repeat.",
    epilog="Start: pal init my-project, then in it: pal import texts.csv, pal next, pal annotate, pal ingest",
)


def _print_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version

        print(f"pal {version('pytorch-active-learning')}")
        raise typer.Exit


def _status_or_help(context: typer.Context, workspace: Path | None) -> None:
    """Print the status of the workspace here; help where there is none."""
    from flows.cli.status import status_of
    from tasks.project import project_here

    project = project_at(workspace) if workspace is not None else project_here()
    print(status_of(project).as_text() if project is not None else context.get_help())


@app.callback()
def options(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")] = False,
) -> None:
    """Options before any command."""
    listen(debug=debug)
    if context.invoked_subcommand is None:
        _status_or_help(context, workspace)
    if workspace is not None:  # the default of every command's own option, and of those of a group
        named, command = {"workspace": str(workspace)}, str(context.invoked_subcommand)
        group = getattr(getattr(context.command, "commands", {}).get(command), "commands", {})
        context.default_map = {command: named | dict.fromkeys(group, named)}


@app.command(epilog='Example: pal init news --labels disaster,other --positive disaster --definition "..."')
def init(
    directory: Annotated[Path | None, typer.Argument(help="The new project's directory.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="disaster-headlines, chapter-2 or demo; with --labels its other settings.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Your own labels, with commas: spam,ham")] = None,
    positive: Annotated[str | None, typer.Option(help="Which of --labels is the rare one.")] = None,
    question: Annotated[str | None, typer.Option(help="What to ask annotators, with --labels.")] = None,
    definition: Annotated[str | None, typer.Option(help="What each of --labels means; annotators see it.")] = None,
) -> None:
    """Create a workspace: a directory with a pal.toml. On a terminal, missing options are prompted for."""
    from annotation.label_set import LabelSet
    from flows.cli.asking import ask_directory, ask_labels
    from storage.errors import WorkspaceError
    from storage.files.folders import write_whole
    from storage.workspace import CONFIG_NAME, Workspace
    from tasks.config.template import config_text, find_preset, label_names, named_labels

    if labels is None and (positive or question or definition):
        raise typer.BadParameter("--positive, --question and --definition go with --labels.")
    asks = labels is None and preset is None and sys.stdin.isatty()
    if directory is None and not asks:
        raise typer.BadParameter("Name the new project's directory: pal init DIR")
    directory = directory or ask_directory()
    if directory.is_file():
        raise WorkspaceError(f"{directory} is a file.", hint="Name a new directory: pal init DIR")
    if (directory / CONFIG_NAME).exists():
        raise WorkspaceError(f"{directory / CONFIG_NAME} exists.", hint=f"Use it: cd {directory}; pal status")
    label_set: LabelSet | None = None
    if labels is not None:
        label_set = named_labels(label_names(labels), positive, question, definition)
    elif asks:
        label_set = ask_labels()
    if label_set is not None:
        label_set = replace(label_set, name=directory.resolve().name or label_set.name)
    found = find_preset(preset or "disaster-headlines", label_set)
    directory.mkdir(parents=True, exist_ok=True)
    Workspace(directory.resolve(), found.lake.catalog, found.lake.data, found.files.root).store()
    write_whole(directory / CONFIG_NAME, config_text(found).encode())  # at the end: then it is a workspace
    print(f"workspace {directory}: look through {directory / CONFIG_NAME}")
    print(f"next: cd {shlex.quote(str(directory))}; pal import FILE")


@app.command(epilog="Example: pal config --json")
def config(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/pal-toml.md.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Print every setting in force, from pal.toml or by default."""
    from tasks.config.template import settings_in_force, settings_of, settings_page

    if markdown:
        print(settings_page())
        return
    found = project_at(workspace).config
    if not as_json:
        print(settings_in_force(found))
        return
    sections: dict[str, dict[str, object]] = {}
    for each in settings_of(found):
        sections.setdefault(each.section, {})[each.name] = {"value": each.value, "default": each.is_default}
    print_json(sections)


@app.command("import", epilog="Example: pal import abcnews-date-text.csv --text-column headline_text")
def import_(
    files: Annotated[list[Path] | None, typer.Argument(help="CSV, TSV, plain text, .xlsx, JSON or Parquet.")] = None,
    original: Annotated[Path | None, typer.Option(help="A directory of the original scripts, pool and labels.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Text column; repeat it to join several.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Name or number of the id column.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="Columns to keep beside the text: url,date; or none (default: all).")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with labels to import as annotations.")] = None,
    split: Annotated[Split, typer.Option(help="What items of --label-column are for.")] = Split.TRAINING,
    encoding: Annotated[str | None, typer.Option(help="utf-8, utf-16, windows-1252 ...")] = None,
    delimiter: Annotated[str | None, typer.Option(help="One character, or tab.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Import texts into the pool without duplicates; rejected rows are listed in a file."""

    from flows.cli.import_summary import summary
    from flows.cli.status import pal_command
    from flows.import_texts import check_import, import_items
    from flows.run import start
    from tasks.import_files import ReadOptions

    project = project_at(workspace)
    kept = tuple(name.strip() for value in context or () for name in value.split(",") if name.strip())
    read = (id_column or "", encoding or "", delimiter or "")
    options = ReadOptions(tuple(text_column or ()), *read, kept, label_column or "", split.value)
    paths = [file.resolve() for file in files or ()]
    directory = str(original.resolve()) if original else ""
    check_import(project, paths, directory, options)
    reports = start(project, import_items, tuple(map(str, paths)), directory, options)
    if as_json:
        print_json(reports)
        return
    for report in reports:
        print(*summary(report), sep="\n")
    print(f"next: {pal_command(project)} next")


@app.command(epilog="Example: pal strategies --json")
def strategies(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/strategies.md.")] = False,
) -> None:
    """List the sampling strategies: what they query, what they need, their cost over n items, and their sources."""
    from tasks.sampling.catalogue import all_strategies, as_markdown, as_table, as_text

    if as_json:
        print_json(as_table(all_strategies()))
        return
    print(as_markdown(all_strategies()) if markdown else as_text(all_strategies()))


@app.command(epilog="Example: pal sample --strategy outlier -n 20 --explain")
def sample(
    strategy: Annotated[str, typer.Option(help="One of those that `pal strategies` lists.")],
    n: Annotated[int, typer.Option("--number", "-n", min=1, help="Items.")] = 20,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each was chosen.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draw; from pal.toml if not given.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show an example of what a strategy would query now, without publishing it; a real batch may differ."""
    from flows.cli.previews import preview

    found = preview(project_at(workspace), strategy, n, seed)
    if as_json:
        print_json([vars(item) for item in found])
        return
    for item in found:
        print(f"{item.rank:>4}  {' '.join(item.text.split())}" + (f"\n{'':<6}{item.reason}" if explain else ""))


@app.command(epilog="Example: pal loop --annotator anna")
def loop(
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Items a batch.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name; the login name if not given.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Annotate in the terminal, batch after batch: ask, ingest, train, report, and again until you save and leave."""
    import getpass

    from flows.cli.annotating import loop_at_terminal

    loop_at_terminal(project_at(workspace), annotator or getpass.getuser(), n)


@app.command(epilog="Example: pal nightly --json")
def nightly(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """What runs every night: ingest, train, evaluate, promote or keep, and a batch when none is open."""
    from flows.nightly import nightly as nightly_flow
    from flows.run import start
    from tasks.project import refuse_lost_labels

    project = project_at(workspace)
    refuse_lost_labels(project)
    show_batch(project, start(project, nightly_flow), as_json)


@app.command(epilog="Example: pal status --json")
def status(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show the items, open batches, the model's metrics, and the next command."""
    from flows.cli.status import status_of

    found = status_of(project_at(workspace))
    print(found.as_json() if as_json else found.as_text())


@app.command(epilog="Example: pal demo pal-demo --fresh")
def demo(
    directory: Annotated[Path, typer.Argument(help="Where to make the demo's workspace.")] = Path("pal-demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace an earlier demo there.")] = False,
) -> None:
    """Run the whole loop on 20,000 synthetic headlines with a simulated annotator, as Prefect flow runs."""
    from flows.cli.demo import run_demo, table_text

    rows = run_demo(directory.resolve(), fresh=fresh)
    print(f"\n{table_text(rows)}\n")
    print(f"Everything is in {directory}: pal.toml, lake/, batches/, models/.")
    path = "" if shutil.which("pal") else f"  export PATH={Path(sys.executable).parent}:$PATH\n"
    print(f"A batch is open for you. Type:\n{path}  cd {shlex.quote(str(directory))}")
    print("  pal annotate\n  pal ingest\n  pal next")
    print("To see the runs in Prefect's UI, type there:\n  pal up")


for commands in (
    batch_commands,
    annotator_commands,
    find_commands,
    item_commands,
    model_commands,
    output_commands,
    service_commands,
    simulation_commands,
    lake_commands,
):
    app.add_typer(commands)
app.add_typer(label_commands)
