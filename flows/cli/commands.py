"""The `pal` command: each command parses its options and calls a flow or a stage; every help ends with an example."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from flows.cli.batch_commands import commands as batch_commands
from flows.cli.item_commands import commands as item_commands
from flows.cli.label_commands import labels as label_commands
from flows.cli.lake_commands import commands as lake_commands
from flows.cli.model_commands import commands as model_commands
from flows.cli.options import Call, JsonOption, WorkspaceOption, command, show_batch
from flows.log_lines import listen
from storage.records import Split

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


GROUPS = {
    "Start": "init status config demo",
    "Import": "import",
    "Label": "next annotate loop ingest submit publish close find show sample strategies review agreement history",
    "Model": "models promote rollback adapt predict report simulate",
    "Run": "nightly up down",
    "Data": "labels items annotators export",
    "Lake": "check backup restore maintain migrate lake",
}
"""Title -> commands, in the order in which help lists them."""


class GroupedHelp(TyperGroup):
    """The commands of `GROUPS`; one that is in no group is listed at the end."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write a section for each group."""
        groups = {title: names.split() for title, names in GROUPS.items()}
        grouped = {name for names in groups.values() for name in names}
        groups["Other"] = [name for name in self.list_commands(ctx) if name not in grouped]
        for title, names in groups.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, shown.get_short_help_str(1_000)) for name, shown in commands if shown and not shown.hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


app = typer.Typer(
    name="pal",
    cls=GroupedHelp,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Human-in-the-loop text classification: import texts, publish batches, ingest answers, train, repeat.",
    epilog="Start: pal init my-project, then in it: pal import texts.csv, pal next, pal annotate, pal ingest",
)


def _print_version(is_wanted: bool) -> None:
    """Print the version and end."""
    if is_wanted:
        from importlib.metadata import version

        print(f"pal {version('pytorch-active-learning')}")
        raise typer.Exit


def _status_or_help(context: typer.Context, workspace: Path | None) -> None:
    """Print the status of the workspace here; help where there is none."""
    from flows.cli.status import status_of
    from tasks.project import project_here

    project = Call(workspace).project if workspace is not None else project_here()
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
        str | None,
        typer.Option(help="disaster-headlines, chapter-2 or demo; with --labels its other settings."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Your own labels, with commas: spam,ham")] = None,
    positive: Annotated[str | None, typer.Option(help="The rare label among --labels.")] = None,
    question: Annotated[str | None, typer.Option(help="The question for annotators, with --labels.")] = None,
    definition: Annotated[str | None, typer.Option(help="The definition of --labels that annotators see.")] = None,
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
    settings = find_preset(preset or "disaster-headlines", label_set)
    directory.mkdir(parents=True, exist_ok=True)
    Workspace(directory.resolve(), settings.lake.catalog, settings.lake.data, settings.files.root).store()
    write_whole(directory / CONFIG_NAME, config_text(settings).encode())  # at the end: then it is a workspace
    print(f"workspace {directory}: look through {directory / CONFIG_NAME}")
    print(f"next: cd {shlex.quote(str(directory))}; pal import FILE")


@command(app, epilog="Example: pal config --json")
def config(
    call: Call,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/pal-toml.md.")] = False,
) -> None:
    """Print every setting in force, from pal.toml or by default."""
    from tasks.config.template import settings_in_force, settings_of, settings_page

    if markdown:
        print(settings_page())
        return
    settings = call.project.config
    sections: dict[str, dict[str, object]] = {}
    for setting in settings_of(settings):
        values = {"value": setting.value, "default": setting.is_default}
        sections.setdefault(setting.section, {})[setting.name] = values
    call.show(sections, settings_in_force(settings))


@command(app, "import", epilog="Example: pal import abcnews-date-text.csv --text-column headline_text")
def import_(
    call: Call,
    files: Annotated[list[Path] | None, typer.Argument(help="CSV, TSV, plain text, .xlsx, JSON or Parquet.")] = None,
    original: Annotated[Path | None, typer.Option(help="A directory of the original scripts.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Text column; repeat it to join several.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Name or number of the id column.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="Columns to keep with the text, such as url,date, or none (default: all).")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with labels to import as annotations.")] = None,
    split: Annotated[Split, typer.Option(help="The split of items with a label from --label-column.")] = Split.TRAINING,
    encoding: Annotated[str | None, typer.Option(help="utf-8, utf-16, windows-1252 ...")] = None,
    delimiter: Annotated[str | None, typer.Option(help="One character, or tab.")] = None,
) -> None:
    """Import texts into the pool without duplicates; rejected rows are listed in a file."""
    from flows.cli.import_summary import summary
    from flows.cli.status import pal_command
    from flows.import_texts import check_import, import_items
    from flows.run import start
    from tasks.import_files import ReadOptions

    project = call.project
    kept = tuple(name.strip() for value in context or () for name in value.split(",") if name.strip())
    read = (id_column or "", encoding or "", delimiter or "")
    options = ReadOptions(tuple(text_column or ()), *read, kept, label_column or "", split.value)
    paths = [file.resolve() for file in files or ()]
    directory = str(original.resolve()) if original else ""
    check_import(project, paths, directory, options)
    reports = start(project, import_items, tuple(map(str, paths)), directory, options)
    lines = [line for report in reports for line in summary(report)]
    call.show(reports, *lines, f"next: {pal_command(project)} next")


@app.command(epilog="Example: pal strategies --json")
def strategies(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/strategies.md.")] = False,
) -> None:
    """List the sampling strategies: what they query, what they need, their cost over n items, and their sources."""
    from tasks.sampling.mixer import all_strategies, as_markdown, as_table, as_text

    text = as_markdown(all_strategies()) if markdown else as_text(all_strategies())
    Call(as_json=as_json).show(as_table(all_strategies()), text)


@command(app, epilog="Example: pal sample --strategy outlier -n 20 --explain")
def sample(
    call: Call,
    strategy: Annotated[str, typer.Option(help="A strategy listed by `pal strategies`.")],
    n: Annotated[int, typer.Option("--number", "-n", min=1, help="Items.")] = 20,
    explain: Annotated[bool, typer.Option("--explain", help="Show why each item was chosen.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed (default: from pal.toml).")] = None,
) -> None:
    """Show an example of what a strategy would query now, without publishing it; a real batch may differ."""
    from flows.cli.previews import preview

    items = preview(call.project, strategy, n, seed)
    reasons = [f"\n{'':<6}{item.reason}" if explain else "" for item in items]
    texts = [f"{item.rank:>4}  {' '.join(item.text.split())}" for item in items]
    call.show(items, *map(str.__add__, texts, reasons))


@command(app, epilog="Example: pal loop --annotator anna", json=False)
def loop(
    call: Call,
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Items per batch.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name (default: the login name).")] = None,
) -> None:
    """Annotate batch after batch in the terminal: answer, ingest, train, report, until you save and leave."""
    import getpass

    from flows.cli.annotating import loop_at_terminal

    loop_at_terminal(call.project, annotator or getpass.getuser(), n)


@command(app, epilog="Example: pal nightly --json")
def nightly(call: Call) -> None:
    """Run the nightly work: ingest, train, evaluate, promote or keep, and publish a batch if none is open."""
    from flows.nightly import nightly as nightly_flow
    from flows.run import start
    from tasks.project import refuse_lost_labels

    project = call.project
    refuse_lost_labels(project)
    show_batch(call, start(project, nightly_flow))


@command(app, epilog="Example: pal status --json")
def status(call: Call) -> None:
    """Show the items, open batches, the model's metrics, and the next command."""
    from flows.cli.status import status_of

    current = status_of(call.project)
    call.show(current.values(), current.as_text())


@app.command(epilog="Example: pal demo pal-demo --fresh")
def demo(
    directory: Annotated[Path, typer.Argument(help="The directory of the demo.")] = Path("pal-demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace an earlier demo.")] = False,
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
    item_commands,
    model_commands,
    lake_commands,
):
    app.add_typer(commands)
app.add_typer(label_commands)
