"""Every batch format: texts go out, somebody else's program fills them in, and the same labels come back."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import pytest
from fillers import PROGRAMS, Given, History, Log, Program, latest
from lake_rows import add_rows
from projects import project_of

from annotation.formats.csv_file import read_csv
from annotation.formats.json_entries import read_entries
from annotation.formats.registry import FORMATS
from annotation.formats.workbook import read_workbook
from annotation.label_set import Label, LabelSet
from storage.files.spreadsheets import restored
from storage.lake.batches import Draft, items_of, reserve
from storage.lake.codebook import NewChange, change_labels, forecast
from storage.lake.connection import bound
from storage.lake.schema import current_labels
from storage.records import Proposal, Split
from storage.workspace import Workspace
from tasks.collect import FileReport, collect_answers
from tasks.config.settings import BatchConfig
from tasks.sample import publish_batches

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
    "line\u2028separator \u0085",
    "\ufeffmark",
    "_x000D_ and _x0041_",
    "2026-01-02",
    "{{x}} $text [1]",
    "x" * 10_000,
]
IDS = ["284006", "00123", "123456789012345678", "1e5", "-7", "=id", "a b", "'q", "Zoë", "x;y", "TRUE"]
TEXTS = {
    IDS[n] if n < len(IDS) else f"i{n}": NASTY[n] if n < len(NASTY) else f"Floods hit town {n}, {n % 7} dead"
    for n in range(60)
}
WAYS = [("related", "related"), ("1", "related"), ("NOT_RELATED", "not_related"), ("0.0", "not_related")]
WAYS += [("unsure", "unsure"), (" Skip ", "skip")]
CONTEXT = ("=url\n<b>", "label")
"""Columns that are shown: the first holds the text of its item, the second what would be an answer elsewhere."""
CHANGED = {"1": "not_related", "related": "skip", " Skip ": "related"}
"""What three answers are changed to, by how they were written."""
UNKNOWN = 50
"""The place of the item to which the answer is none."""


@dataclass(frozen=True)
class Published:
    """A workspace with a batch that is published in every format; its items in the order they are shown."""

    workspace: Workspace
    batch_id: str
    item_ids: list[str]

    @property
    def folder(self) -> Path:
        return self.workspace.batches / self.batch_id


@pytest.fixture(scope="module")
def publish(tmp_path_factory: pytest.TempPathFactory, label_set: LabelSet) -> Callable[[str, Mapping[str, str]], Path]:
    """Publishes a batch of texts (item_id -> text) once for each name; returns the workspace, to be copied."""
    made: dict[str, Path] = {}

    def published(name: str, texts: Mapping[str, str]) -> Path:
        if name not in made:
            workspace = Workspace(tmp_path_factory.mktemp("published") / "workspace")
            workspace.make()
            reserve_in_every_format(workspace, texts, label_set)
            publish_batches(project_of(workspace, label_set, batch=BatchConfig(context=CONTEXT)))
            workspace.store().close()
            made[name] = workspace.root
        return made[name]

    return published


def reserve_in_every_format(workspace: Workspace, texts: Mapping[str, str], label_set: LabelSet) -> None:
    store, ids = workspace.store(), list(texts)
    add_rows(store, list(texts.items()), "test")
    change = bound("UPDATE lake.items SET context = json_object(?, text, ?, 'related')::VARCHAR", CONTEXT)
    store.write(lambda connection: connection.execute(change), "context")
    proposals = [Proposal(item_id, "least_confidence", 1 / rank, rank) for rank, item_id in enumerate(ids, start=1)]
    draft = Draft(Split.TRAINING, ids, proposals, 7, store.version(), label_set.digest, formats=tuple(FORMATS))
    reserve(store, draft, beside_open=True)


@pytest.fixture
def texts(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """60 texts by item_id, and what kind they are of."""
    if getattr(request, "param", "nasty") == "nasty":
        return "nasty", TEXTS
    folder: Path = request.getfixturevalue("real_data")
    with (folder / "unlabeled_data" / "unlabeled_data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return "real", dict(rows[:: len(rows) // 60][:60])


@pytest.fixture
def batch(
    tmp_path: Path, texts: tuple[str, dict[str, str]], publish: Callable[[str, Mapping[str, str]], Path]
) -> Published:
    """A batch of texts that nobody has answered yet, in a workspace of its own."""
    root = Path(shutil.copytree(publish(*texts), tmp_path / "workspace"))
    (folder,) = (root / "batches").iterdir()
    return Published(Workspace(root), folder.name, list(texts[1]))


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    return PROGRAMS[request.param]


def answers(item_ids: list[str]) -> list[Given]:
    """An answer to every item, the first three those that are changed later; of every tenth item two."""
    draw = random.Random(1)
    given = []
    for n, item_id in enumerate(item_ids):
        written = list(CHANGED)[n] if n < len(CHANGED) else draw.choice(WAYS)[0]
        if n % 10 == 5:
            given.append(Given(item_id, "skip", "skip", 2 * n))
        given.append(Given(item_id, written, dict(WAYS)[written], 2 * n + 1))
    return given


def changes(given: Log) -> list[Given]:
    """Other answers to the first three items, some time later."""
    return [Given(each.item_id, CHANGED[each.written], CHANGED[each.written], 1000 + each.at_s) for each in given[:3]]


def ingest(batch: Published, path: Path) -> FileReport:
    (report,) = collect_answers(project_of(batch.workspace), [path])
    return report


def history(batch: Published, program: Program) -> History:
    """What the lake has; times only where the program tells them."""
    rows = batch.workspace.store().rows("""SELECT item_id, annotator, answer, annotated_at FROM lake.annotations
        ORDER BY annotated_at, ingested_at""")
    found: History = {}
    for item_id, annotator, answer, at in rows:
        told = (answer, at.replace(tzinfo=UTC) if program.timed else None)
        found.setdefault((item_id, annotator), []).append(told)
    return found


def mended(path: Path, to: Path) -> Path:
    """A list of errors in which the label that is none is put right."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{**row, "label": row["label"].replace("relatd", "related")} for row in csv.DictReader(file)]
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return to


def test_every_format_that_is_published_is_filled_in_by_a_program() -> None:
    assert {program.of for program in PROGRAMS.values()} - {""} == set(FORMATS)


@pytest.mark.parametrize("texts", ["nasty", "real"], indirect=True)
def test_the_texts_of_the_batch_are_what_was_imported(batch: Published, texts: tuple[str, dict[str, str]]) -> None:
    items = items_of(batch.workspace.store(), batch.batch_id)
    assert {item.item_id: item.text for item in items} == texts[1]
    assert len(items) == 60
    assert all(form.path(batch.folder).is_file() for form in FORMATS.values())


def test_labels_come_back_identical_once_and_a_corrected_file_brings_the_corrections(
    batch: Published, program: Program
) -> None:
    given, path = answers(batch.item_ids), batch.workspace.root / program.file
    program.fill(batch.folder, path, given)
    first = ingest(batch, path)
    known = program.told(given)
    assert (first.n_new, first.n_known, first.errors) == (sum(map(len, known.values())), 0, [])
    assert first.completed == ([batch.batch_id] if program.skips else [])
    assert history(batch, program) == known
    again = ingest(batch, path)
    assert (again.n_new, again.n_known, again.errors) == (0, first.n_new, [])
    assert history(batch, program) == known
    program.fill(batch.folder, path, [*given, *changes(given)])
    corrected, brought = ingest(batch, path), program.told(changes(given))
    assert len(brought) == (3 if program.skips else 2)
    assert (corrected.n_new, corrected.errors) == (len(brought), [])
    assert history(batch, program) == known | {key: known.get(key, []) + new for key, new in brought.items()}


def shown_columns(form: str, path: Path) -> Iterator[tuple[str, str]]:
    """Id and first shown column of each item of a file."""
    if form in ("csv", "xlsx"):
        read = {"csv": read_csv, "xlsx": read_workbook}[form]
        yield from ((row.item_id, row.cells["context_=url <b>"]) for row in read(path))
        return
    if form == "html":
        found = re.search(r'<script[^>]*id="handout"[^>]*>(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
        assert found
        yield from ((item["item_id"], dict(item["columns"])[CONTEXT[0]]) for item in json.loads(found[1])["items"])
        return
    for entry in read_entries(path):
        sent = entry.values | entry.values.get("data", {}) | entry.values.get("meta", {})
        text = {**sent, **sent.get("fields", {})}["context"]
        assert text.endswith("\nlabel: related")
        yield sent.get("item_id") or sent["id"], text.removeprefix(f"{CONTEXT[0]}: ").removesuffix("\nlabel: related")


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "original"])
def test_columns_are_shown_as_they_are_and_are_no_answers(batch: Published, form: str) -> None:
    path = FORMATS[form].path(batch.folder)
    shown = dict(shown_columns(form, path))
    assert shown.keys() == TEXTS.keys()
    as_kept = {key: restored(re.sub(r"\r\n?", "\n", text)) if form == "xlsx" else text for key, text in TEXTS.items()}
    assert {key: text for key, text in shown.items() if text != as_kept[key]} == {}
    if form != "html":
        report = ingest(batch, path)
        assert (report.n_new, report.errors) == (0, [])


def test_names_and_keys_from_before_a_rename_come_back_right(batch: Published, program: Program) -> None:
    given, path = answers(batch.item_ids[:12]), batch.workspace.root / program.file
    program.fill(batch.folder, path, given)
    rename = NewChange("rename", {"related": "disaster"}, (), {"related": "1", "not_related": "0"}, "anna")
    store = batch.workspace.store()
    change_labels(store, rename, forecast(store, rename))
    label_set = LabelSet("t", "?", "...", (Label("disaster", "0", positive=True), Label("not_related", "1")))
    (report,) = collect_answers(project_of(batch.workspace, label_set), [path])
    assert report.errors == []
    assert history(batch, program) == program.told(given), "answers stay as they were given"
    wanted = {item_id: {"related": "disaster"}.get(each.answer, each.answer) for item_id, each in latest(given).items()}
    found = dict(store.rows(f"SELECT item_id, label FROM ({current_labels()}) WHERE label IS NOT NULL"))
    assert found == {item_id: label for item_id, label in wanted.items() if label not in ("unsure", "skip")}


def test_one_unknown_answer_costs_one_row_and_is_told(batch: Published, program: Program) -> None:
    item_id = batch.item_ids[UNKNOWN]
    given = [
        each._replace(written="relatd", answer="relatd") if each.item_id == item_id else each
        for each in answers(batch.item_ids)
    ]
    path = batch.workspace.inbox / program.file
    program.fill(batch.folder, path, given)
    report = ingest(batch, path)
    (told,) = report.errors
    assert all(value in told for value in ("label", "'relatd'", "'related'"))
    expected = program.told([each for each in given if each.item_id != item_id])
    assert history(batch, program) == expected
    again = ingest(batch, mended(Path(str(report.errors_file)), batch.workspace.inbox / "mended.csv"))
    assert (again.n_new, again.errors) == (1, [])
    found = history(batch, program)
    assert [answer for answer, _ in found.pop((item_id, program.annotator))] == ["related"]
    assert found == expected
