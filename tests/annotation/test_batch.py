"""A published batch: whole or not at all, whatever kills its writer, and a manifest that says what it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest

from annotation.batch import (
    DEFINITION_NAME,
    MANIFEST,
    Contents,
    HandoutFile,
    add_formats,
    as_published,
    batch_files,
    handouts,
    published_labels,
    read_manifest,
    write_batch,
)
from annotation.formats.csv_file import read_csv
from annotation.formats.registry import FORMATS
from annotation.label_set import AnswerError, Label, LabelSet
from storage.errors import BatchError
from storage.readers.spellings import text_hash
from storage.records import Assignment, Batch, BatchItem, BatchStatus, Proposal, Purpose, Share, StopSign
from tasks.config.template import DISASTER

NAME = "b0001-training"
ITEMS = [BatchItem(f"i{n}", text, text_hash(text)) for n, text in enumerate(["Floods in Zürich", "=1+1", "Fire"])]
PROPOSALS = [Proposal("i0", "random", None, 1), Proposal("i0", "entropy", 0.5, 2), Proposal("i2", "outlier", 0.25, 1)]
SHARES = (
    Share("random", 1, "random"),
    Share("anchor", 2, "entropy", "training items, and there are none yet", {"size": 1000, "score": "entropy"}),
)
SIGNS = (
    StopSign("kappa of successive models", None, None, None, "at least 0.99", False, "no two models yet"),
    StopSign("positives among random items", 0.08, 0.04, 0.15, "for information", None, "8 of 100"),
)
MIX, AT, STATUS = {"random": 3}, datetime(2026, 1, 2), BatchStatus.PUBLISHED
BATCH = Batch(NAME, Purpose.TRAINING, STATUS, 3, AT, "m1", 7, 42, DISASTER.digest, MIX, SHARES, SIGNS)
CONTENTS = Contents(ITEMS, PROPOSALS)
CSV_NAME = "batch.csv"
FILES = {CSV_NAME, DEFINITION_NAME, MANIFEST}


def write(folder: Path) -> bool:
    return write_batch(folder, BATCH, CONTENTS, DISASTER)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_whole(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert names_in(folder) == FILES
    assert manifest["files"].keys() == FILES - {MANIFEST}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert [row.item_id for row in read_csv(folder / CSV_NAME)] == ["i0", "i1", "i2"]


def test_the_manifest_says_what_the_batch_is(tmp_path: Path) -> None:
    assert write(tmp_path / NAME)
    assert_whole(tmp_path / NAME)
    manifest = read_manifest(tmp_path / NAME)
    del manifest["files"]
    random, entropy, outlier = (
        {"strategy": each.strategy, "score": each.score, "rank": each.rank} for each in PROPOSALS
    )
    assert manifest == {
        "manifest_version": 2,
        "batch_id": NAME,
        "workspace_id": "",
        "codebook": 1,
        "purpose": "training",
        "n": 3,
        "created_at": "2026-01-02T00:00:00+00:00",
        "task": DISASTER.name,
        "question": DISASTER.question,
        "definition": DISASTER.definition,
        "labels": [
            {"name": "related", "key": "1", "description": ""},
            {"name": "not_related", "key": "0", "description": ""},
        ],
        "label_set": DISASTER.digest,
        "model_id": "m1",
        "seed": 7,
        "lake_version": 42,
        "mix": {"random": 3},
        "strategies": [asdict(share) for share in SHARES],
        "stop_signs": [asdict(sign) for sign in SIGNS],
        "overlap": 1,
        "annotators": {},
        "handouts": [{"format": "csv", "annotator": "", "file": "batch.csv"}],
        "items": [
            {"item_id": item.item_id, "text_hash": item.text_hash, "proposals": proposals}
            for item, proposals in zip(ITEMS, ([random, entropy], [], [outlier]), strict=True)
        ],
    }


def test_no_score_or_strategy_is_shown_to_annotators(tmp_path: Path) -> None:
    write(tmp_path / NAME)
    shown = "".join((tmp_path / NAME / name).read_text(encoding="utf-8") for name in FILES - {MANIFEST})
    assert not [word for word in ("random", "entropy", "outlier", "anchor", "kappa", "0.25", "0.5") if word in shown]


def test_the_definition_is_beside_the_file_with_every_allowed_answer(tmp_path: Path) -> None:
    write(tmp_path / NAME)
    text = (tmp_path / NAME / DEFINITION_NAME).read_text(encoding="utf-8")
    assert text.startswith(f"{DISASTER.question}\n\n{DISASTER.definition}\n")
    assert text.endswith("  related (or 1)\n  not_related (or 0)\n  unsure\n  skip\n")
    related, other = DISASTER.labels
    write_batch(
        tmp_path / "b2", BATCH, CONTENTS, replace(DISASTER, labels=(related, replace(other, description="a\nb")))
    )
    text = (tmp_path / "b2" / DEFINITION_NAME).read_text(encoding="utf-8")
    assert text.endswith("  related (or 1)\n  not_related (or 0): a b\n  unsure\n  skip\n")


def test_what_is_published_is_never_changed(tmp_path: Path) -> None:
    write(tmp_path / NAME)
    (tmp_path / NAME / CSV_NAME).write_text("an annotator's work", encoding="utf-8")
    assert not write(tmp_path / NAME)
    assert (tmp_path / NAME / CSV_NAME).read_text(encoding="utf-8") == "an annotator's work"
    assert names_in(tmp_path) == {NAME}


def test_a_damaged_manifest_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BatchError, match=r"manifest\.json"):
        read_manifest(tmp_path / "empty")
    write(tmp_path / NAME)
    (tmp_path / NAME / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(BatchError, match=r"manifest\.json") as caught:
        read_manifest(tmp_path / NAME)
    assert "pal check" in caught.value.hint
    (tmp_path / NAME / MANIFEST).unlink()
    assert write(tmp_path / NAME)
    assert_whole(tmp_path / NAME)


def test_a_batch_of_before_there_were_formats_has_the_shared_csv(tmp_path: Path) -> None:
    write(tmp_path / NAME)
    manifest = read_manifest(tmp_path / NAME)
    del manifest["handouts"], manifest["overlap"], manifest["annotators"]
    (tmp_path / NAME / MANIFEST).write_text(json.dumps(manifest | {"manifest_version": 1}), encoding="utf-8")
    assert batch_files(tmp_path / NAME) == [HandoutFile("csv", "", "batch.csv")]


ASKED = [
    Assignment("i2", "anna"),
    Assignment("i0", "anna"),
    Assignment("g1", "ben", gold=True),
    Assignment("i1", "ben"),
]
GOLD = BatchItem("g1", "Quake", text_hash("Quake"))


def test_a_format_can_be_added_later_and_what_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    write(folder)
    (folder / CSV_NAME).write_text("filled", encoding="utf-8")
    for _ in range(2):
        added = add_formats(folder, BATCH, CONTENTS, DISASTER, [FORMATS["original"], FORMATS["csv"]])
        assert sorted(path.name for path in added) == ["batch.csv", "original.csv"]
    assert names_in(folder) == FILES | {"original.csv"}
    assert (folder / CSV_NAME).read_text(encoding="utf-8") == "filled"
    assert [each.format for each in batch_files(folder)] == ["csv", "original"]
    assert as_published(folder)["original.csv"] == hashlib.sha256((folder / "original.csv").read_bytes()).hexdigest()
    assert as_published(folder)[CSV_NAME] != hashlib.sha256(b"filled").hexdigest()


def test_old_files_keep_the_keys_that_their_annotators_were_told(tmp_path: Path) -> None:
    write(tmp_path / NAME)
    swapped = replace(DISASTER, labels=(Label("related", "0"), Label("not_related", "1"), Label("new", "2")))
    labels = published_labels(tmp_path / NAME, swapped)
    assert [labels.answer(cell) for cell in ("1", "0", "new")] == ["related", "not_related", "new"]
    renamed = replace(DISASTER, labels=(Label("disaster", "1"), Label("not_related", "0"), Label("war", "w")))
    labels = published_labels(tmp_path / NAME, renamed)
    assert [labels.answer(cell) for cell in ("disaster", "0", "w")] == ["disaster", "not_related", "war"]
    for gone in ("1", "related"):
        with pytest.raises(AnswerError, match=f"'{gone}'"):
            labels.answer(gone)


def test_a_folder_that_lost_its_manifest_is_read_by_names_alone_once_the_keys_are_others(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    swapped = replace(DISASTER, labels=(Label("related", "0"), Label("not_related", "1")))
    write(folder)
    (folder / MANIFEST).unlink()
    assert write_batch(folder, BATCH, CONTENTS, DISASTER)
    assert published_labels(folder, DISASTER).answer("1") == "related", "the same keys as before"
    (folder / MANIFEST).unlink()
    before = published_labels(folder, swapped)
    assert write_batch(folder, BATCH, CONTENTS, swapped)
    for labels in (before, published_labels(folder, swapped)):
        assert labels.answer("related") == "related"
        for key in ("0", "1"):
            with pytest.raises(AnswerError, match=f"'{key}'"):
                labels.answer(key)


@pytest.mark.parametrize("left", [CSV_NAME, "answers-anna.jsonl"])
def test_a_folder_without_manifest_and_definition_is_read_by_names_alone(tmp_path: Path, left: str) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / left).write_text("filled", encoding="utf-8")
    assert write(folder)
    assert published_labels(folder, DISASTER).answer("related") == "related"
    with pytest.raises(AnswerError, match="'1'"):
        published_labels(folder, DISASTER).answer("1")


def test_a_format_that_is_added_after_the_keys_changed_has_the_keys_of_the_first_files(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    write(folder)
    labels = (Label("related", "0", positive=True), Label("not_related", "1", default=True))
    swapped = replace(DISASTER, labels=labels)
    (page,) = add_formats(folder, BATCH, CONTENTS, swapped, [FORMATS["html"]])
    write_batch(tmp_path / "as-told" / NAME, replace(BATCH, formats=("html",)), CONTENTS, DISASTER)
    assert page.read_bytes() == (tmp_path / "as-told" / NAME / "batch.html").read_bytes()
    assert [label["key"] for label in read_manifest(folder)["labels"]] == ["1", "0"]
    assert published_labels(folder, swapped).answer("1") == "related"


def test_each_annotator_gets_a_file_of_their_own_in_each_format_and_no_gold_item_can_be_told(tmp_path: Path) -> None:
    contents = Contents([*ITEMS, GOLD], PROPOSALS, ASKED)
    assert all(handout.proposals == {} for handout in handouts(BATCH, contents, DISASTER))
    assert write_batch(tmp_path / NAME, replace(BATCH, formats=("csv", "original")), contents, DISASTER)
    files = [("csv", "anna"), ("csv", "ben"), ("original", "anna"), ("original", "ben")]
    assert [(each.format, each.annotator) for each in batch_files(tmp_path / NAME)] == files
    rows = {name: read_csv(tmp_path / NAME / f"batch-{name}.csv") for name in ("anna", "ben")}
    assert [[row.item_id for row in rows[name]] for name in rows] == [["i2", "i0"], ["g1", "i1"]]
    assert [{row.annotator for row in rows[name]} for name in rows] == [{"anna"}, {"ben"}]
    manifest = read_manifest(tmp_path / NAME)
    assert manifest["annotators"] == {"anna": 2, "ben": 2}
    listed = {item["item_id"]: item["proposals"] for item in manifest["items"]}
    assert listed == {"g1": [], "i0": [], "i1": [], "i2": []}, "own ones and gold ones alike"
    assert list(listed) == sorted(listed), "the order tells nothing either"
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / NAME).iterdir())
    assert "gold" not in written
    rows_shown = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / NAME).glob("original-*.csv"))
    assert not [word for word in ("entropy", "outlier") if word in rows_shown]
    plain = Contents(ITEMS, PROPOSALS, [each for each in ASKED if not each.gold])
    assert [sorted(handout.proposals) for handout in handouts(BATCH, plain, DISASTER)] == [["i0", "i2"]] * 2


def test_unchanged_labels_are_the_published_ones(tmp_path: Path, label_set: LabelSet) -> None:
    write(tmp_path / NAME)
    assert published_labels(tmp_path / NAME, label_set) == label_set
    assert published_labels(tmp_path / "nowhere", label_set) == label_set
