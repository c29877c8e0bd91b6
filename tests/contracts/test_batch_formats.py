"""Every batch format: texts go out, somebody else's program fills them in, and the same labels come back."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annotation.journal import journal_path
from annotation.label_set import LabelSet
from storage.batches import items_of
from storage.records import Batch
from storage.workspace import Workspace
from tasks.collect import FileReport, collect_answers
from tasks.publish import publish_batches

Filled = dict[str, tuple[str, str]]
Fill = Callable[[Path, Path, Filled], None]

NASTY = [
    "=1+1",
    '=HYPERLINK("http://x","y")',
    "+61 2 9999 9999",
    "-5 degrees",
    "@everyone, run",
    "\ttab first",
    "\rreturn first",
    "'quoted'",
    "'=both",
    'she said "no"',
    '"',
    '""',
    "semi;colon, comma | bar\ttab",
    "two\nlines",
    "three\r\nlines",
    "lone\rreturn",
    "Zoë 🔥 火事 Наводнение",
    "\u202eright to left\u202c مرحبا بالعالم",
    "e\u0301 composed",
    "zero\u200bwidth",
    "007",
    "1e5",
    "TRUE",
    "#NAME?",
    "NULL",
    "related",
    "skip",
    "text,label,note",
    '{"batch_id": "b1"}',
    "\\N \\n \\",
    "<b>bold</b> &amp;",
    " spaces around ",
    "x" * 10_000,
]
IDS = ["284006", "00123", "123456789012345678", "1e5", "-7", "=id", "a b", "'q", "Zoë", "x;y", "TRUE"]
TEXTS = {
    IDS[n] if n < len(IDS) else f"i{n}": NASTY[n] if n < len(NASTY) else f"Floods hit town {n}, {n % 7} dead"
    for n in range(200)
}


def answers(seed: int) -> Filled:
    """item_id -> (what is written, what it means)."""
    ways = [("related", "related"), ("1", "related"), ("NOT_RELATED", "not_related"), ("0.0", "not_related")]
    ways += [("unsure", "unsure"), (" Skip ", "skip")]
    draw = random.Random(seed)
    return {item_id: draw.choice(ways) for item_id in TEXTS}


def fill_csv_as_python(folder: Path, to: Path, filled: Filled) -> None:
    """Keeps the order; fills in by the row's id as it stands there, less the mark that keeps a formula from running."""
    with (folder / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        shown = row["item_id"]
        row["label"] = filled[shown if shown in filled else shown[1:]][0]
        row["annotator"] = "anna"
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def fill_csv_as_a_spreadsheet(folder: Path, to: Path, filled: Filled) -> None:
    """Sorts, adds columns and blank rows, makes ids numbers, and saves as UTF-16 with tabs."""
    with (folder / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        shown = row["item_id"]
        row["label"] = filled[shown if shown in filled else shown[1:]][0]
        row["annotator"] = "anna"
        row["my column"] = "seen"
        if shown.isdecimal():
            row["item_id"] = f"{int(shown):.5E}" if len(shown) > 11 else f"{int(shown)}.0"
    rows.sort(key=lambda row: (row["label"], row["text"]))
    names = list(rows[0])[::-1]
    with to.open("w", encoding="utf-16", newline="") as file:
        writer = csv.writer(file, dialect="excel-tab")
        writer.writerow(names)
        for number, row in enumerate(rows):
            writer.writerow([row[name] for name in names])
            if number % 50 == 0:
                writer.writerow([])


def fill_journal(folder: Path, to: Path, filled: Filled) -> None:
    """Answers item by item, first something else: the last answer of a journal counts."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    start = datetime(2026, 1, 2, tzinfo=UTC)
    with to.open("w", encoding="utf-8", newline="\n") as file:
        for seconds, answer in ((0, "unsure"), (5000, None)):
            for number, item in enumerate(manifest["items"]):
                line = {
                    "batch_id": manifest["batch_id"],
                    "item_id": item["item_id"],
                    "text_hash": item["text_hash"],
                    "answer": answer or filled[item["item_id"]][1],
                    "note": "",
                    "annotator": "anna",
                    "seconds": 1.5,
                    "annotated_at": (start + timedelta(seconds=seconds + number)).isoformat(),
                }
                file.write(json.dumps(line) + "\n")


FORMATS: dict[str, tuple[Fill, str]] = {
    "csv": (fill_csv_as_python, "anna.csv"),
    "csv of a spreadsheet": (fill_csv_as_a_spreadsheet, "anna.txt"),
    "journal": (fill_journal, journal_path(Path(), "anna").name),
}


@pytest.fixture
def batch(workspace: Workspace, label_set: LabelSet, reserve_batch: Callable[..., Batch]) -> Batch:
    """200 items with nasty texts and ids, published."""
    reserved = reserve_batch(workspace, TEXTS)
    publish_batches.fn(workspace, label_set)
    return reserved


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> tuple[Fill, str]:
    return FORMATS[request.param]


def ingest(workspace: Workspace, label_set: LabelSet, path: Path) -> FileReport:
    from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        return collect_answers.fn(workspace, label_set, [path])[0]


def newest(workspace: Workspace) -> dict[str, tuple[str, str]]:
    rows = workspace.store().rows("""SELECT item_id, arg_max(answer, (annotated_at, ingested_at)),
        arg_max(annotator, annotated_at) FROM lake.annotations GROUP BY item_id""")
    return {item_id: (answer, annotator) for item_id, answer, annotator in rows}


def test_the_texts_of_the_batch_are_what_was_imported(workspace: Workspace, batch: Batch) -> None:
    assert {item.item_id: item.text for item in items_of(workspace.store(), batch.batch_id)} == TEXTS


def test_labels_come_back_identical_for_every_text(
    workspace: Workspace, label_set: LabelSet, batch: Batch, form: tuple[Fill, str]
) -> None:
    fill, name = form
    filled = answers(1)
    fill(workspace.batches / batch.batch_id, workspace.inbox / name, filled)
    report = ingest(workspace, label_set, workspace.inbox / name)
    assert report.errors == []
    assert report.completed == [batch.batch_id]
    assert newest(workspace) == {item_id: (meant, "anna") for item_id, (_, meant) in filled.items()}


def test_the_same_file_again_brings_nothing_and_a_corrected_one_the_corrections(
    workspace: Workspace, label_set: LabelSet, batch: Batch, form: tuple[Fill, str]
) -> None:
    fill, name = form
    filled, path = answers(1), workspace.root / name
    fill(workspace.batches / batch.batch_id, path, filled)
    first = ingest(workspace, label_set, path)
    again = ingest(workspace, label_set, path)
    assert (again.n_new, again.n_known) == (0, first.n_new + first.n_known)
    corrected = filled | {"00123": ("skip" if filled["00123"][1] != "skip" else "unsure",) * 2}
    fill(workspace.batches / batch.batch_id, path, corrected)
    assert ingest(workspace, label_set, path).n_new == 1
    assert newest(workspace) == {item_id: (meant, "anna") for item_id, (_, meant) in corrected.items()}


def test_one_unknown_answer_costs_one_row_and_is_told(
    workspace: Workspace, label_set: LabelSet, batch: Batch, form: tuple[Fill, str]
) -> None:
    fill, name = form
    filled = answers(1) | {"i150": ("relatd", "relatd")}
    fill(workspace.batches / batch.batch_id, workspace.inbox / name, filled)
    report = ingest(workspace, label_set, workspace.inbox / name)
    (told,) = report.errors
    assert "column label: 'relatd'" in told
    assert "did you mean 'related'?" in told
    assert newest(workspace).get("i150") in (None, ("unsure", "anna")), "a journal's first answer was a good one"
    assert len(newest(workspace)) in (199, 200)
    errors = Path(str(report.errors_file))
    mended = errors.read_text(encoding="utf-8-sig").replace("relatd,", "related,", 1)
    (workspace.inbox / errors.name).write_text(mended, encoding="utf-8", newline="")
    assert ingest(workspace, label_set, workspace.inbox / errors.name).n_new == 1
    expected = {item_id: (meant, "anna") for item_id, (_, meant) in filled.items()} | {"i150": ("related", "anna")}
    assert newest(workspace) == expected
