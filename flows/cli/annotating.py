"""Commands for annotators: terminal, `pal submit`, agreement, history of an item, additional formats."""

from __future__ import annotations

import sys
import urllib.error
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from textwrap import fill
from typing import Any

import numpy as np

from annotation.agreement import OVERALL, Agreement, AnnotatorAgreement, Known, PairAgreement, agreement
from annotation.batch import add_formats, contents_of, handouts, published_labels, write_batch
from annotation.checks import FilledFile
from annotation.formats.journal import Journal, journal_path
from annotation.formats.registry import find_formats
from annotation.inbox import BatchChecks, check_file, into_inbox, waiting_answers
from annotation.keys import line_keys, terminal_keys
from annotation.label_set import UNSURE
from annotation.terminal import Tally, annotate
from flows.cli.screen import terminal_of
from flows.cli.status import pal_command
from flows.ingest import ingest
from flows.next_batch import next_batch
from flows.run import run_here, start
from flows.server.command_runs import running_server
from flows.server.prefect_api import ask
from storage.errors import BatchError
from storage.files.folders import MANIFEST
from storage.lake.annotations import annotator_spellings
from storage.lake.batches import answered_in, find_batch, published_batches
from storage.lake.history import ItemHistory, gold_items, independent_answers
from storage.readers.spellings import folded
from storage.records import IMPORTED, ORIGINAL, BatchStatus, Metric
from tasks.project import Project, refuse_lost_labels


def agreement_of(project: Project, *, unsure_counts: bool = False) -> Agreement:
    """The agreement of all named annotators, by the newest answer of each to each item.

    Raises:
        BatchError: Nobody has answered under a name yet.
    """
    store, names = project.store, project.label_set.names
    rows = [row for row in independent_answers(store).to_pylist() if row["answer"] in (*names, UNSURE)]
    if not rows:
        raise BatchError(
            "There are no answers of named annotators yet.",
            hint='Set annotators = ["anna", "ben"] and overlap = 2 under [batch] in pal.toml, then run: pal next',
        )
    seconds: dict[str, list[float]] = {}
    for row in rows:
        if row["seconds"] is not None:
            seconds.setdefault(row["annotator"], []).append(row["seconds"])
    return agreement(
        [(row["item_id"], row["annotator"], row["answer"]) for row in rows],
        names,
        np.random.default_rng(project.config.model.seed),
        unsure="category" if unsure_counts else "missing",
        known=Known(
            resolved={row["item_id"]: row["label"] for row in rows if row["label"] in names},
            gold={
                annotator: {item_id: label for item_id, label in items.items() if label in names}
                for annotator, items in gold_items(store).items()
            },
            seconds=seconds,
        ),
    )


def consensus_of(project: Project) -> dict[str, Any]:
    """The consensus of annotators and model on the training items (CROWDLAB), with their quality.

    Raises:
        PalError: The extra `crowd` is not installed, or no item has answers from two annotators.
    """
    from annotation.consensus import crowd_consensus
    from storage.lake.items import texts_of
    from tasks.ask_again import answer_matrix, out_of_sample

    store = project.store
    items = out_of_sample(project, store.version())
    matrix, names = answer_matrix(store, items.item_ids, project.label_set)
    consensus = crowd_consensus(matrix, items.probabilities)
    order = [int(k) for k in np.argsort(consensus.quality, kind="stable") if np.isfinite(consensus.quality[k])]
    texts = texts_of(store, [items.item_ids[k] for k in order])
    return {
        "annotators": {
            name: float(quality) if np.isfinite(quality) else None
            for name, quality in zip(names, consensus.annotator_quality, strict=True)
        },
        "items": [
            {
                "item_id": items.item_ids[k],
                "text": texts[items.item_ids[k]],
                "label": project.label_set.names[items.labels[k]],
                "consensus": project.label_set.names[consensus.labels[k]],
                "quality": float(consensus.quality[k]),
            }
            for k in order
        ],
    }


def consensus_text(consensus: dict[str, Any], most: int = 20) -> str:
    """For a terminal: each annotator's quality, then the most doubtful labels."""
    lines = ["annotator quality (1 = always right, by all others and the model)"]
    for name, quality in consensus["annotators"].items():
        lines.append(f"  {name:<30}{'-' if quality is None else f'{quality:.3f}'}")
    lines += ["", "most doubtful labels (quality, label -> consensus, text)"]
    for item in consensus["items"][:most]:
        change = item["label"] if item["label"] == item["consensus"] else f"{item['label']} -> {item['consensus']}"
        lines.append(
            f"  {item['quality']:.3f}  {change:<30}  {' '.join(item['text'].split())[:60]}  ({item['item_id']})"
        )
    return "\n".join(lines)


def history_text(history: ItemHistory) -> str:
    """An item's answers for a terminal, oldest first; answers that count for the label are marked."""
    label = history.label or ("none: skipped, unsure or disputed" if history.answers else "none yet")
    lines = [" ".join(history.text.split()), f"label {label}" + (f" ({history.split.value})" if history.split else "")]
    for answer in history.answers:
        duration = f", {answer.seconds:.1f} s" if answer.seconds is not None else ""
        note = f"\n      note: {answer.note}" if answer.note else ""
        lines.append(
            f"  {'*' if answer.counts else ' '} {answer.annotated_at:%Y-%m-%d %H:%M:%S} UTC  {answer.annotator}: "
            f"{answer.answer}  ({answer.batch_id}{duration}; {answer.source_file}){note}"
        )
    if history.answers:
        lines.append("  * counts for the label")
    published = [answer for answer in history.answers if not answer.batch_id.startswith((IMPORTED, ORIGINAL))]
    batch_ids = {answer.guideline: answer.batch_id for answer in published}
    lines += [f"  guideline {guideline}: batches/{batch_id}/manifest.json" for guideline, batch_id in batch_ids.items()]
    return "\n".join(lines)


def publish_formats(project: Project, batch_id: str, formats: Sequence[str]) -> list[Path]:
    """Write an open batch in additional formats; returns the files of these formats.

    Raises:
        BatchError: There is no such batch or format, or the batch is not open.
        ConfigError: pal.toml lacks a label of answers.
    """
    refuse_lost_labels(project)
    store, task = project.store, project.label_set
    requested = find_formats(formats or project.config.batch.formats)
    batch = find_batch(store, batch_id).batch
    if batch.status is not BatchStatus.PUBLISHED:
        raise BatchError(f"Batch {batch_id} is {batch.status.value}.", hint="List the open batches: pal status")
    project.workspace.pull()
    folder, contents = project.workspace.batches / batch_id, contents_of(store, batch, project.config.batch.context)
    write_batch(folder, batch, contents, task)  # a crash may have left it unwritten
    written = add_formats(folder, batch, contents, task, requested)
    project.workspace.push()
    return written


MOST_PAIRS = 20
"""Maximum number of pairs in the text; the table has all."""
MOST_CONFUSIONS = 3
"""Maximum number of confusions per annotator in the text; the table has all."""
WIDTH = 100


def agreement_text(result: Agreement) -> str:
    """The metrics for a terminal of 80 to 100 columns, in aligned blocks; pairs with the least agreement come first."""
    unsure = "left out" if result.unsure == "missing" else "counted as a category"
    rarest = min(result.shares, key=lambda name: result.shares[name])
    pairs = sorted((pair for pair in result.pairs if pair.n), key=lambda pair: pair.percent.value or 0.0)
    of_pair = ("pair", "", "items", "percent", "Cohen kappa", "Gwet AC1")
    of_annotator = ("annotator", "answers", "unsure", "as most others", "items", "right on gold", "items", "median s")
    blocks = [
        f"Annotators {len(result.annotators)}, answers {result.n_answers}, items {result.n_items}, with two or more "
        f"answers that count {result.n_several}.\nUnsure {_percent(result.unsure_share)} of the answers, {unsure}.",
        "\n".join(
            f"{OVERALL[metric.name]:<20}{_figure(metric, 3, f'undefined: {metric.reason}')}"
            for metric in result.overall
        ),
        f"Kappa and alpha are low if a label is rare (here {_printable(rarest)}, {_percent(result.shares[rarest])}), "
        "even if people agree: see AC1.",
        _aligned(of_pair, map(_pair_row, pairs[:MOST_PAIRS]), n_names=2),
        f"{MOST_PAIRS} of {len(pairs)} pairs, those that agree least." if len(pairs) > MOST_PAIRS else "",
        _aligned(of_annotator, map(_annotator_row, result.annotators), n_names=1),
        "\n".join(line for metric in result.annotators for line in _confusions(metric)),
        "\n".join(fill(note, WIDTH) for note in result.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _aligned(header: Sequence[str], rows: Iterable[Sequence[str]], n_names: int) -> str:
    """Columns as wide as their cells; the first `n_names` to the left, and cut off where a line would be too long."""
    from rich.cells import cell_len, set_cell_size

    lines = [header, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    width_of_names = WIDTH - sum(2 + width for width in widths[n_names:])
    widths[:n_names] = [min(width, max(8, width_of_names // n_names - 2)) for width in widths[:n_names]]

    def laid(number: int, cell: str) -> str:
        width = widths[number]
        if number >= n_names:
            return cell.rjust(width)
        return set_cell_size(cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…", width)

    laid_out = ("  ".join(laid(number, cell) for number, cell in enumerate(line)).rstrip() for line in lines)
    return "\n".join(laid_out) if len(lines) > 1 else ""


def _pair_row(pair: PairAgreement) -> tuple[str, ...]:
    figures = (_figure(metric, 2, "-") for metric in (pair.percent, pair.kappa, pair.ac1))
    return _printable(pair.first), _printable(pair.second), str(pair.n), *figures


def _annotator_row(row: AnnotatorAgreement) -> tuple[str, ...]:
    return (
        _printable(row.annotator),
        str(row.n_answers),
        _percent(row.unsure_share),
        _figure(row.with_others, 2, "-"),
        str(row.n_compared),
        _figure(row.gold, 2, "-"),
        str(row.n_gold),
        "-" if row.median_s is None else f"{row.median_s:.1f}",
    )


def _confusions(row: AnnotatorAgreement) -> Iterator[str]:
    cells = [
        (n, label, answer, sum(counts.values()))
        for label, counts in row.confusion.items()
        for answer, n in counts.items()
        if n and answer != label
    ]
    for n, label, answer, n_label in sorted(cells, key=lambda cell: -cell[0])[:MOST_CONFUSIONS]:
        yield f"{_printable(row.annotator)} answered {answer} to {n} of {n_label} items that are {label}."


def _figure(metric: Metric, digits: int, undefined: str) -> str:
    if metric.value is None:
        return undefined
    interval = f" [{metric.low:.{digits}f}, {metric.high:.{digits}f}]" if metric.low is not None else ""
    return f"{metric.value:.{digits}f}{interval}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in name)


def annotate_batch(project: Project, batch_id: str | None, annotator: str) -> Tally:
    """Ask for a batch's unanswered items; the answers go to a journal in the batch's folder.

    Raises:
        BatchError: No batch is open, or there is none with this id.
    """
    project.workspace.pull()
    store = project.store
    if batch_id is None:
        opened = published_batches(store)
        if not opened:
            raise BatchError("No batch is open.", hint="Publish one: pal next")
        batch_id = opened[0].batch_id
    batch = find_batch(store, batch_id).batch
    folder, task = project.workspace.batches / batch_id, project.label_set
    contents = contents_of(store, batch, project.config.batch.context)
    annotator = annotator_spellings(store).get(folded(annotator), " ".join(annotator.split()))
    if batch.status is BatchStatus.PUBLISHED:  # its files may have been lost
        write_batch(folder, batch, contents, task)
    elif not (folder / MANIFEST).is_file():
        raise BatchError(
            f"Batch {batch_id} has no files: it was imported, or its folder was deleted.",
            hint="List the open batches: pal status",
        )
    handout_of = {
        handout.annotator: replace(handout, label_set=published_labels(folder, handout.label_set))
        for handout in handouts(batch, contents, task)
    }
    assigned = annotator if contents.assignments else None
    if assigned is not None and assigned not in handout_of:
        raise BatchError(
            f"Batch {batch_id} has no items for {annotator!r}.",
            hint=f"Name one of its annotators: --annotator {' | '.join(handout_of)}",
        )
    answered = answered_in(store, batch_id, assigned)
    for answer in waiting_answers(project.workspace, batch_id, task):
        if assigned in (None, answer.annotator):
            answered[answer.item_id] = answer.answer
    try:
        with Journal(journal_path(folder, annotator), contents.workspace_id) as journal:
            return annotate(
                handout_of[assigned or ""],
                answered,
                journal,
                annotator=annotator,
                keys=terminal_keys(sys.stdin) if sys.stdin.isatty() else line_keys(sys.stdin),
                out=terminal_of(sys.stdout),
            )
    finally:
        project.workspace.push()


def loop_at_terminal(project: Project, annotator: str, n: int | None) -> None:
    """Next batch, questions, ingest, train and report, until the annotator leaves or the pool is empty."""
    run = start
    while True:
        batch_id = run(project, next_batch, n or 0)
        if batch_id is None:
            print(f"next: {pal_command(project)} import FILE")
            return
        run = start if running_server(project) else run_here  # which does not say again that there is no server
        tally = annotate_batch(project, batch_id, annotator)
        if tally.finished or waiting_answers(project.workspace, batch_id, project.label_set):
            run(project, ingest)
        if not tally.finished:
            print(f"next: {pal_command(project)} loop")
            return


EVENT, RESOURCE = "pal.batch.submitted", "pal.inbox"
"""As in prefect.yaml, where they start the ingest flow."""


@dataclass(frozen=True)
class Submission:
    """The result of submitting a file.

    Attributes:
        answers: Number of valid answers by batch.
        errors: Messages about invalid rows; an ingest lists them beside the file.
        place: Its path in the inbox, or its URI in the shared one.
        told: The server that starts the ingest flow for it; None if there is none.
        untold: Why there is none.
    """

    file: str
    answers: dict[str, int]
    errors: list[str]
    place: str
    told: str | None
    untold: str = ""


def submit(project: Project, path: Path, api: str | None) -> Submission:
    """Check a file, put it into the inbox, and send the event that starts the ingest flow.

    Args:
        api: The API URL of the Prefect server; None if none is running.

    Raises:
        BatchError: The file does not exist, cannot be read, or has no answers; the inbox is unchanged.
    """
    if not path.is_file():
        raise BatchError(f"There is no file {path}.", hint="Name a filled batch file: pal submit batch-anna.csv")
    project.workspace.pull()
    checked = check_file(BatchChecks(project.workspace, project.label_set), FilledFile(path, in_inbox=True))
    if not checked.answers and not checked.errors:
        if checked.unreadable:
            reason, _, hint = checked.unreadable[0].partition("\nHint: ")
            raise BatchError(reason, hint=hint or "Repair the file, then run: pal submit FILE")
        raise BatchError(f"{path} has no answer.", hint="Fill in the label column, then run: pal submit FILE")
    workspace = project.workspace
    location = workspace.hand_in(path) if workspace.files else str(into_inbox(workspace, path))
    untold = tell_server(api, project, location) if api else "no Prefect server is running"
    return Submission(
        str(path),
        {batch_id: len(answers) for batch_id, answers in checked.answers.items()},
        [str(error) for error in checked.errors] + checked.unreadable,
        location,
        None if untold else api,
        untold,
    )


def tell_server(api: str, project: Project, location: str) -> str:
    """Send the event that a file was submitted; returns why no ingest is started, or an empty string."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {"prefect.resource.id": RESOURCE, "prefect.resource.name": str(project.workspace.inbox)},
        "payload": {"workspace": str(project.workspace.root), "file": PurePath(location).name},
    }
    try:
        deployed = ask(api, "/deployments/name/ingest/ingest")
        if deployed["parameters"].get("workspace") != str(project.workspace.root):
            return f"the server at {api} works for {deployed['parameters'].get('workspace')}"
        ask(api, "/events", [event])
    except urllib.error.HTTPError as error:
        error.close()
        return f"the server at {api} has no ingest deployment" if error.code == 404 else f"{api} answers {error.code}"
    except OSError as error:
        return f"{api} does not answer: {error}"
    return ""
