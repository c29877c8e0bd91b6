"""Every format can be named, written for an annotator and for anybody, and read back; what is none is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from openpyxl import load_workbook

from annotation.formats.registry import DEFINITION_NAME, FORMATS, SETUP_FILES, Format, find_formats, is_for_answers
from annotation.label_set import Handout, Label, LabelSet, with_keys
from storage.errors import BatchError
from storage.files.folders import MANIFEST
from storage.readers.spellings import text_hash
from storage.records import BatchItem

ITEMS = [BatchItem(f"i{k}", text, text_hash(text)) for k, text in enumerate(("Floods in Zürich", "=1+1", "Fire"))]
EVERY = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


@EVERY
def test_beside_a_file_is_what_sets_its_tool_up_and_nothing_else(
    form: Format, tmp_path: Path, label_set: LabelSet
) -> None:
    for annotator in ("", "anna", "settings"):
        form.write(form.path(tmp_path, annotator), Handout("b0001-training", label_set, ITEMS, annotator))
    setup = {form.setup[0]} if form.setup else set()
    files = {form.path(tmp_path, annotator).name for annotator in ("", "anna", "settings")}
    assert len(files) == 3
    assert {path.name for path in tmp_path.iterdir()} == files | setup
    assert not files & setup
    for name in setup:
        text = (tmp_path / name).read_bytes().decode("utf-8")
        assert "\r" not in text
        assert all(label in text for label in label_set.names)
        assert name.endswith(".xml") or json.loads(text)


@EVERY
def test_labels_without_a_key_are_offered_by_their_name(form: Format, tmp_path: Path, label_set: LabelSet) -> None:
    many = replace(label_set, labels=with_keys([Label(f"label{k}") for k in range(77)]))
    form.write(form.path(tmp_path), Handout("b0001-training", many, ITEMS))
    if form.name == "xlsx":
        cells = [row[0] for row in load_workbook(form.path(tmp_path))["definition"].iter_rows(values_only=True)]
        assert cells[-108:-31] == [*many.names[-75:], "unsure", "skip"]
        assert cells[-31:] == [label.key for label in many.labels[:31]]
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in tmp_path.iterdir())
    assert not [empty for empty in ('hotkey=""', "<kbd></kbd>", '"suffixKey": ""') if empty in text]


@EVERY
def test_without_a_definition_no_place_is_kept_for_it(form: Format, tmp_path: Path, label_set: LabelSet) -> None:
    form.write(form.path(tmp_path), Handout("b0001-training", replace(label_set, definition=""), ITEMS))
    if form.name == "xlsx":
        rows = load_workbook(form.path(tmp_path))["definition"].iter_rows(values_only=True)
        assert "Definition" not in {row[0] for row in rows}
    elif form.name == "html":
        assert re.search(r'id="show-definition"[^>]* hidden', form.path(tmp_path).read_text(encoding="utf-8"))
    else:
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in tmp_path.iterdir())
        assert not [empty for empty in ('value=""', r"?\n\n\"") if empty in text]


def test_the_file_of_an_annotator_has_their_name_and_the_shared_one_has_none(tmp_path: Path) -> None:
    assert FORMATS["csv"].path(tmp_path) == tmp_path / "batch.csv"
    assert FORMATS["label-studio"].path(tmp_path, "anna") == tmp_path / "label-studio-anna.json"
    assert FORMATS["xlsx"].path(tmp_path, "Zoë / QA").name == "batch-zo-qa~404a85198335.xlsx"


def test_no_two_formats_write_the_same_file(tmp_path: Path) -> None:
    names = [form.path(tmp_path, annotator).name for form in FORMATS.values() for annotator in ("", "anna")]
    assert len({*names, *SETUP_FILES, MANIFEST, DEFINITION_NAME}) == len(names) + len(SETUP_FILES) + 2


def test_formats_are_found_by_their_names_in_the_order_given() -> None:
    assert [form.name for form in find_formats(["original", "csv"])] == ["original", "csv"]
    assert find_formats([]) == []
    assert all(FORMATS[name].name == name for name in FORMATS)


@pytest.mark.parametrize(("name", "nearest"), [("xslx", "'xlsx'"), ("CSV", ""), ("", "")])
def test_a_name_that_is_none_is_an_error_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(BatchError) as caught:
        find_formats(["csv", name])
    assert repr(name) in caught.value.what
    assert nearest in caught.value.hint
    assert all(known in caught.value.hint for known in FORMATS)


@pytest.mark.parametrize("name", ["batch.csv", "answers-anna.jsonl", "x.zip", "argilla.json", "tmp", "my.part.csv"])
def test_what_an_annotator_may_have_put_there_is_looked_at(name: str) -> None:
    assert is_for_answers(name)


@pytest.mark.parametrize(
    "name",
    [MANIFEST, DEFINITION_NAME, *sorted(SETUP_FILES), ".batch.csv.part", "~$batch.xlsx", ".~lock.batch.csv#"],
)
def test_what_goes_with_a_batch_is_hidden_or_half_copied_is_not(name: str) -> None:
    assert not is_for_answers(name)
    assert not [name for end in ("part", "crdownload", "tmp", "download") if is_for_answers(f"batch.csv.{end}")]
