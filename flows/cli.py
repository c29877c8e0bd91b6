"""The `pal` command: a few lines per command over flows, status and annotator; every help ends with an example."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storage.errors import PalError

if TYPE_CHECKING:
    from flows.config import Project

app = typer.Typer(
    name="pal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Human-in-the-loop text classification: import texts, publish batches, ingest answers, train, repeat.",
    epilog="Start: pal init my-project, then in it: pal import texts.csv, pal next, pal annotate, pal ingest",
)

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The project's directory; else $PAL_WORKSPACE, else upward from here."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="csv, xlsx, html, label-studio, argilla, doccano, prodigy or original; several with commas.",
    ),
]


def main() -> None:
    """Run the command; an error a user can mend is a message and exit code 1."""
    try:
        app()
    except PalError as error:
        if os.environ.get("PAL_DEBUG"):
            raise
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if os.environ.get("PAL_DEBUG"):
            raise
        print(f"Error: {error}\nHint: check the path, your rights and the space on the disk.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback()
def options(
    workspace: WorkspaceOption = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")] = False,
) -> None:
    """Options before any command."""
    if workspace is not None:
        os.environ["PAL_WORKSPACE"] = str(workspace)
    if debug:
        os.environ["PAL_DEBUG"] = "1"


@app.command(epilog="Example: pal init headlines --preset disaster-headlines")
def init(
    directory: Annotated[Path, typer.Argument(help="The new project's directory.")],
    preset: Annotated[str, typer.Option(help="disaster-headlines, chapter-2 or demo.")] = "disaster-headlines",
    labels: Annotated[str | None, typer.Option(help="Your own labels instead, with commas: spam,ham")] = None,
    positive: Annotated[str | None, typer.Option(help="Which of --labels is the rare one.")] = None,
    question: Annotated[str | None, typer.Option(help="What to ask annotators, with --labels.")] = None,
) -> None:
    """Make a workspace: a directory with a pal.toml to look through and change."""
    from flows.config import open_project
    from flows.presets import config_text, find_preset, named_labels
    from storage.errors import WorkspaceError
    from storage.workspace import CONFIG_NAME

    if not labels and (positive or question):
        raise typer.BadParameter("--positive and --question go with --labels")
    if directory.is_file():
        raise WorkspaceError(f"{directory} is a file.", hint="name a new directory: pal init DIR")
    if (directory / CONFIG_NAME).exists():
        raise WorkspaceError(f"{directory / CONFIG_NAME} is there already.", hint=f"use it: cd {directory}; pal status")
    found = find_preset(preset)
    names = [name.strip() for name in labels.split(",")] if labels else []
    label_set = named_labels(names, positive, question) if names else found.label_set
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_NAME).write_text(config_text(label_set, found.minimums), encoding="utf-8", newline="\n")
    open_project(directory).workspace.store()
    print(f"workspace {directory}: look through {directory / CONFIG_NAME}")
    print(f"next: cd {shlex.quote(str(directory))}; pal import FILE")


@app.command("import", epilog="Example: pal import abcnews-date-text.csv --text-column headline_text")
def import_(
    files: Annotated[list[Path] | None, typer.Argument(help="CSV, TSV, plain text, JSON lines or Parquet.")] = None,
    original: Annotated[Path | None, typer.Option(help="A directory of the original scripts, pool and labels.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Name or number of the text column.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Name or number of the id column.")] = None,
    encoding: Annotated[str | None, typer.Option(help="utf-8, utf-16, windows-1252 ...")] = None,
    delimiter: Annotated[str | None, typer.Option(help="One character, or tab.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Take texts into the pool: each text once, bad rows listed in a rejects file, twice changes nothing."""
    from flows.engine import run
    from flows.status import pal_command
    from storage.errors import SourceError

    if not files and original is None:
        raise SourceError("nothing to import.", hint="pal import texts.csv, or pal import --original DIR")
    project = _project(workspace)
    reports = run(
        "import_items",
        project,
        files=[str(file.resolve()) for file in files or ()],
        original=str(original.resolve()) if original else None,
        text_column=text_column,
        id_column=id_column,
        encoding=encoding,
        delimiter=delimiter,
    )
    if as_json:
        _print_json([vars(report) for report in reports])
        return
    for report in reports:
        print(
            f"{report.source}: {report.n_new:,} new items, {report.n_duplicates:,} duplicates, "
            f"{report.n_rejected:,} rejected" + (f" (see {report.rejects_file})" if report.rejects_file else "")
        )
    print(f"next: {pal_command(project)} next")


@app.command("next", epilog="Example: pal next -n 50 --json")
def next_(
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Items; from pal.toml if not given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draw; from pal.toml if not given.")] = None,
    another: Annotated[bool, typer.Option("--another", help="Also where a batch is open.")] = False,
    adjudicate: Annotated[
        bool, typer.Option("--adjudicate", help="What annotators disagree on or are unsure of, with their answers.")
    ] = False,
    form: FormatOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Publish the next batch: random items until there are enough labels, then train and choose; an open one stays."""
    from annotation.formats import find_formats
    from flows.engine import run
    from storage.batches import open_batches

    if adjudicate and (another or seed is not None):
        raise typer.BadParameter("--adjudicate goes with -n and --format only")
    find_formats(_names(form))
    project = _project(workspace)
    if adjudicate:
        batch_id = run("adjudicate", project, n=n, formats=_names(form) or None)
        _show_batch(project, batch_id, as_json, none="nothing is disputed")
        return
    before = {progress.batch.batch_id for progress in open_batches(project.workspace.store())}
    batch_id = run("next_batch", project, n=n, seed=seed, another=another, formats=_names(form) or None)
    if batch_id in before:
        print(f"  {batch_id} is still open; for one beside it: pal next --another", file=sys.stderr)
    _show_batch(project, batch_id, as_json)


@app.command(epilog="Example: pal strategies --json")
def strategies(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/strategies.md.")] = False,
) -> None:
    """Every sampling strategy: what it asks about, what it needs, its cost over n items, and where it comes from."""
    from tasks.sampling.catalogue import all_strategies, as_markdown, as_table, as_text

    if as_json:
        _print_json(as_table(all_strategies()))
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
    """An example of what a strategy asks about now: shown, not published; a batch's own draw may be another."""
    from flows.preview import preview

    found = preview(_project(workspace), strategy, n, seed)
    if as_json:
        _print_json([vars(item) for item in found])
        return
    for item in found:
        print(f"{item.rank:>4}  {' '.join(item.text.split())}" + (f"\n{'':<6}{item.reason}" if explain else ""))


@app.command(epilog="Example: pal annotate b0003-training --annotator anna")
def annotate(
    batch: Annotated[str | None, typer.Argument(help="A batch; the oldest open one if not given.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name; the login name if not given.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Answer a batch in the terminal; every answer is on disk before the next question."""
    import getpass

    from flows.annotating import annotate_batch
    from flows.status import pal_command

    project = _project(workspace)
    annotate_batch(project, batch, annotator or getpass.getuser())
    print(f"next: {pal_command(project)} ingest")


@app.command(epilog="Example: pal ingest inbox/batch-anna.csv")
def ingest(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Filled files; all of batches/ and inbox/ if none.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="Of the named files; told by their content if not given.")
    ] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Take answers into the lake, exactly once; rows that cannot be taken are listed in FILE.errors.csv."""
    from annotation.formats import find_formats
    from flows.engine import run

    if form is not None:
        if not files:
            raise typer.BadParameter("--format goes with named files")
        find_formats([form])
    project = _project(workspace)
    reports = run("ingest", project, files=[str(file.resolve()) for file in files or ()], form=form)
    if as_json:
        _print_json([vars(report) for report in reports])
    else:
        new, errors = sum(report.n_new for report in reports), sum(len(report.errors) for report in reports)
        print(f"{new} new annotations from {len(reports)} file(s), {errors} error(s)")
    if any(report.errors for report in reports):
        raise typer.Exit(1)


@app.command(epilog="Example: pal publish b0003-training --format label-studio")
def publish(
    batch: Annotated[str, typer.Argument(help="An open batch.")],
    form: FormatOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write an open batch's files in more formats, beside those that are there."""
    from flows.answers import publish_formats

    paths = publish_formats(_project(workspace), batch, _names(form))
    if as_json:
        _print_json([str(path) for path in paths])
    else:
        print(*paths, sep="\n")


@app.command(epilog="Example: pal review -n 50")
def review(
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Most items.")] = None,
    method: Annotated[
        str, typer.Option(help="confident-learning, or active-lab: what one more answer is worth (extra crowd).")
    ] = "confident-learning",
    form: FormatOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Publish the training items that are most likely mislabelled, to be asked again without their label."""
    from flows.engine import run

    if method not in ("confident-learning", "active-lab"):
        raise typer.BadParameter(f"{method!r} is neither confident-learning nor active-lab", param_hint="--method")
    project = _project(workspace)
    batch_id = run("review", project, n=n, method=method, formats=_names(form) or None)
    _show_batch(project, batch_id, as_json, none="no training label is suspicious")


@app.command(epilog="Example: pal agreement --json")
def agreement(
    unsure: Annotated[bool, typer.Option("--unsure", help="Count unsure as an answer like a label.")] = False,
    consensus: Annotated[
        bool, typer.Option("--consensus", help="Weigh annotators and model instead (CROWDLAB; extra crowd).")
    ] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """How far annotators agree: of all, of each pair, of each with the others and with gold items."""
    from flows.answers import agreement_of, consensus_of, consensus_text

    project = _project(workspace)
    if consensus:
        doubtful = consensus_of(project)
        if as_json:
            _print_json(doubtful)
        else:
            print(consensus_text(doubtful))
        return
    from annotation.agreement import as_table
    from annotation.agreement_text import agreement_text

    found = agreement_of(project, unsure_counts=unsure)
    if as_json:
        _print_json(as_table(found))
    else:
        print(agreement_text(found), end="")


@app.command(epilog="Example: pal history 284006")
def history(
    item: Annotated[str, typer.Argument(help="An item's id, as it stands in the batch files.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Every answer that was ever given to an item: by whom, when, in which batch, from which file."""
    from dataclasses import asdict

    from flows.answers import history_text
    from storage.answers import history_of

    found = history_of(_project(workspace).workspace.store(), item)
    if as_json:
        _print_json(asdict(found))
    else:
        print(history_text(found))


@app.command(epilog="Example: pal close b0003-training")
def close(
    batch: Annotated[str, typer.Argument(help="The batch.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Give the unanswered items of a batch back to the pool; answers that come in later are still taken."""
    from annotation.inbox import waiting_answers
    from storage.batches import close_batch, find_batch
    from storage.errors import BatchError

    project = _project(workspace)
    find_batch(project.workspace.store(), batch)
    if waiting := waiting_answers(project.workspace, batch, project.config.task):
        raise BatchError(
            f"{len(waiting)} answers in the files of {batch} are not ingested yet.", hint="take them first: pal ingest"
        )
    n = close_batch(project.workspace.store(), batch)
    if as_json:
        _print_json({"batch_id": batch, "n_returned": n})
    else:
        print(f"{batch} is closed; {n} items are back in the pool")


@app.command(epilog="Example: pal loop --annotator anna")
def loop(
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Items a batch.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name; the login name if not given.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """The original's one command: next batch, questions, ingest, train and report, again - until you save and leave."""
    import getpass

    from flows.annotating import loop_at_terminal

    loop_at_terminal(_project(workspace), annotator or getpass.getuser(), n)


@app.command(epilog="Example: pal nightly --json")
def nightly(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """What runs every night: ingest, train, evaluate, promote or keep, and a batch when none is open."""
    from flows.engine import run

    project = _project(workspace)
    _show_batch(project, run("nightly", project), as_json)


@app.command(epilog="Example: pal status --json")
def status(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """What is there, what is out, how good the model is, and what to type next."""
    from flows.status import status_of

    found = status_of(_project(workspace))
    print(found.as_json() if as_json else found.as_text())


@app.command(epilog='Example: pal predict "floods cut off coastal town" "minister opens school"')
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, as `pal import` reads them.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Name or number of the text column.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Label and probability of texts by the production model: label, probability and text, with tabs between."""
    from flows.predict import predictions

    found = predictions(_project(workspace), texts or [], file, text_column)
    if as_json:
        _print_json(list(found))
        return
    for prediction in found:
        one_line = " ".join(prediction["text"].split())
        print(prediction["label"], f"{prediction['probability']:.4f}", one_line, sep="\t")


@app.command(epilog="Example: pal demo pal-demo --fresh")
def demo(
    directory: Annotated[Path, typer.Argument(help="Where to make the demo's workspace.")] = Path("pal-demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace an earlier demo there.")] = False,
) -> None:
    """The whole loop on 20,000 synthetic headlines with a simulated annotator, in a minute or two."""
    from flows.demo import run_demo, table_text

    rows = run_demo(directory.resolve(), fresh=fresh)
    print(f"\n{table_text(rows)}\n")
    print(f"Everything lies in {directory}: pal.toml, lake/, batches/, models/.")
    path = "" if shutil.which("pal") else f"  export PATH={Path(sys.executable).parent}:$PATH\n"
    print(f"A batch is open for you; type:\n{path}  cd {shlex.quote(str(directory))}")
    print("  pal annotate\n  pal ingest\n  pal next")


def _project(workspace: Path | None) -> Project:
    from flows.config import open_project

    return open_project(workspace)


def _names(form: list[str] | None) -> list[str]:
    """Format names, given one by one or with commas."""
    return [name.strip() for each in form or () for name in each.split(",") if name.strip()]


def _show_batch(project: Project, batch_id: str | None, as_json: bool, none: str = "no batch is open") -> None:
    from annotation.batch import batch_files
    from flows.status import pal_command
    from storage.batches import find_batch
    from storage.items import count_pool

    pal = pal_command(project)
    if batch_id is None:
        more = f"{pal} next" if count_pool(project.workspace.store()) else f"{pal} import FILE"
        print("null" if as_json else f"{none}; next: {more}")
        return
    progress = find_batch(project.workspace.store(), batch_id)
    batch, folder = progress.batch, project.workspace.batches / batch_id
    files = batch_files(folder)
    if as_json:
        _print_json(
            {
                "batch_id": batch_id,
                "purpose": batch.purpose.value,
                "n": batch.n,
                "n_answered": progress.n_answered,
                "model_id": batch.model_id,
                "files": [str(folder / each.file) for each in files],
            }
        )
        return
    answered = f", {progress.n_answered} of them answered" if progress.n_answered else ""
    print(f"batch {batch_id}: {batch.n} items for {batch.purpose.value}{answered}")
    print(folder)
    for form in dict.fromkeys(each.format for each in files):
        print(f"  {form:<13}{'  '.join(each.file for each in files if each.format == form)}")
    print(f"next: fill one of them in and run {pal} ingest, or answer here: {pal} annotate {batch_id}")


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


if __name__ == "__main__":
    main()
