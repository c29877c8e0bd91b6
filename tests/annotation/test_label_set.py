"""The label set: which cell means which answer, and that nothing else means one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.label_set import RESERVED_KEYS, AnswerError, Label, LabelSet, label_set_of
from storage.lake.codebook import Codebook, LabelChange
from storage.readers.spellings import folded


def of(*labels: Label) -> LabelSet:
    return LabelSet("t", "Which?", "...", labels)


STARS = of(Label("1", "a"), Label("10", "b"), Label("v1", "c"))


GIVEN = dict.fromkeys(["related", " Related\t", "RELATED", "1", "1.0", "1.00", "1,0", "\u00a01\u00a0"], "related")
GIVEN |= {"0": "not_related", "0.0": "not_related", "UNSURE": "unsure"}
EMPTY = ["", "  ", "\t", "\u00a0", "\r\n"]


def test_a_label_is_given_by_name_or_key_in_any_case_and_as_a_spreadsheet_saves_numbers(label_set: LabelSet) -> None:
    assert {cell: label_set.answer(cell) for cell in GIVEN} == GIVEN
    assert {label_set.answer(cell) for cell in EMPTY} == {None}, "no answer and no error"
    assert [STARS.answer(cell) for cell in ("10.0", "1.0", "b", "V1")] == ["10", "1", "10", "v1"], "a number as a name"
    assert (label_set.positive, label_set.default) == ("related", "not_related")


@pytest.mark.parametrize(
    "cell", ["2", "-1", "1.5", "10.01", "yes", "relatedd", "#NAME?", "1;0", "true", "u", "s", "related?"]
)
def test_anything_else_is_an_error(label_set: LabelSet, cell: str) -> None:
    with pytest.raises(AnswerError) as caught:
        label_set.answer(cell)
    assert repr(cell) in caught.value.what
    assert all(value in caught.value.hint for value in ("related", "1", "not_related", "0", "unsure", "skip"))


@pytest.mark.parametrize("cell", ["v1.0", "1.0.0", ".0", "c.0"])
def test_only_a_number_may_have_lost_its_shape(cell: str) -> None:
    with pytest.raises(AnswerError):
        STARS.answer(cell)


@given(st.text())
def test_no_cell_but_the_known_spellings_becomes_a_label(cell: str) -> None:
    labels = of(Label("related", "1"), Label("not_related", "0"))
    try:
        answer = labels.answer(cell)
    except AnswerError:
        return
    known = {"related", "1", "not_related", "0", "unsure", "skip", ""}
    assert (answer or "") in known
    assert folded(cell) in known or folded(cell).rstrip("0").rstrip(".,") in {"", "1", "0"}


def test_the_error_names_the_nearest_answer_first(label_set: LabelSet) -> None:
    with pytest.raises(AnswerError) as caught:
        label_set.answer("Not Related")
    assert "'not_related'" in caught.value.hint
    with pytest.raises(AnswerError) as caught:
        label_set.answer("xyz")
    assert "'not_related'" not in caught.value.hint


def test_of_many_labels_the_error_names_the_nearest_only() -> None:
    labels = of(*(Label(f"topic {k}") for k in range(77)))
    with pytest.raises(AnswerError) as caught:
        labels.answer("topik 7")
    assert "'topic 7'" in caught.value.hint
    assert len(caught.value.hint) < 120


def test_a_name_is_known_however_its_accents_and_spaces_are_composed() -> None:
    labels = of(Label("Zoë mag", "1"), Label("b", "2"))
    assert labels.answer("ZOE\u0308  mag") == "Zoë mag"


def test_a_key_chooses_its_label_only(three_labels: LabelSet) -> None:
    assert (three_labels.positive, three_labels.default) == (None, None)
    assert three_labels.names == ("sport", "politics", "weather")
    assert [three_labels.by_key(key) for key in "1234"] == ["sport", "politics", "weather", None]


def test_the_digest_follows_what_annotators_are_told(label_set: LabelSet) -> None:
    others = [
        replace(label_set, question="?"),
        replace(label_set, definition="."),
        replace(label_set, labels=label_set.labels[::-1]),
        replace(label_set, labels=(replace(label_set.labels[0], description="d"), *label_set.labels[1:])),
    ]
    assert len({label_set.digest, *(other.digest for other in others)}) == 5
    assert replace(label_set, name="x").digest == label_set.digest


def test_a_good_label_set_has_no_faults(label_set: LabelSet, three_labels: LabelSet) -> None:
    assert label_set.faults() == three_labels.faults() == STARS.faults() == []


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ((Label("a", "1"),), ["1", "2"]),
        ((Label(" a", "1"), Label("b", "2")), ["' a'"]),
        ((Label("", "1"), Label("b", "2")), ["''"]),
        ((Label("Unsure", "1"), Label("b", "2")), ["'Unsure'"]),
        ((Label("skip", "1"), Label("b", "2")), ["'skip'"]),
        ((Label("a\nb", "1"), Label("b", "2")), [repr("a\nb")]),
        ((Label("a", "12"), Label("b", "2")), ["'12'", "'a'"]),
        ((Label("a", "\t"), Label("b", "2")), [repr("\t"), "'a'"]),
        *(((Label("a", key), Label("b", "2")), [repr(key), "'a'"]) for key in sorted(RESERVED_KEYS | {"U"})),
        ((Label("a", "1"), Label("A", "2")), ["'a'"]),
        ((Label("a", "x"), Label("b", "X")), ["'x'"]),
        ((Label("a", "b"), Label("b", "1")), ["'b'"]),
        ((Label("Zoë", "1"), Label("ZOE\u0308", "2")), ["'zoë'"]),
        ((Label("a", "1", positive=True), Label("b", "2", positive=True)), ["positive = true", " a ", " b"]),
        ((Label("a", "1", default=True), Label("b", "2", default=True)), ["default = true", " a ", " b"]),
    ],
)
def test_one_fault_is_found_and_told(labels: tuple[Label, ...], values: list[str]) -> None:
    (fault,) = of(*labels).faults()
    assert all(value in fault for value in values)


def test_all_faults_are_told_at_once() -> None:
    assert len(of(Label("", "12"), Label("skip", "u", positive=True), Label("c", "3", positive=True)).faults()) == 5


def test_a_file_of_an_old_batch_may_have_names_of_any_time_since() -> None:
    def change(codebook: int, label: str | None, becomes: str | None) -> LabelChange:
        return LabelChange(codebook, "k", label, becomes, {"a": "1", "b": "2"}, 0, "me", "", datetime(2026, 1, 1))

    later = [change(3, "a2", "a3"), change(4, None, "c"), change(5, "c", "d"), change(6, "b", None)]
    asked = label_set_of(of(Label("a3"), Label("d")), Codebook((change(2, "a", "a2"), *later)), 1)
    assert [asked.answer(name) for name in ("a", "a2", "a3", "b", "c", "d")] == ["a", "a", "a", "b", "c", "d"]
