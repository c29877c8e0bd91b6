"""Handouts of nasty texts and ids with answers to them, and what must come back of a tool that was given both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from annotation.checks import FilledRow, check_rows
from annotation.label_set import Handout, Label, LabelSet
from storage.readers.spellings import text_hash
from storage.records import BatchItem, Proposal

LABELS = LabelSet(
    "t",
    'Is it "related" & <new>?',
    "A story about a disaster.\nNot: crime.",
    (Label("related", "1", positive=True), Label("not_related", "0"), Label("Überschwemmung <&\"'>", "Ü")),
)
NASTY = [
    "=1+1", '=HYPERLINK("http://x","y")', "+61 2 9999", "-5 degrees", "@all", "\ttab first", "\rreturn first",
    "'quoted'", 'she said "no"', '"', "a;b, c|d\te", "two\nlines", "two\r\nlines", "lone\rreturn",
    "line\u2028separator \u0085", "Zoë 🔥 火事 Наводнение", "\u202eright to left\u202c مرحبا", "e\u0301 composed",
    "zero\u200bwidth", "nul\x00 inside", "007", "1e5", "NaN", "null", "{{x}} $text {% if %}",
    "<b>bold</b> &amp;", "s3://bucket/key", "\\ud800 \\n \\", " spaces around ", "x" * 10_000,
]  # fmt: skip
IDS = ["284006", "00123", "123456789012345678", "1e5", "-7", "=id", "a b", "'q", "Zoë", "x;y", "TRUE", "a/b", '"']
ANSWERS = [*LABELS.names, "unsure", "skip"]


@dataclass(frozen=True)
class Filled:
    """A handout, and what is answered: item_id -> answer."""

    handout: Handout
    answers: dict[str, str]


def handout_of(texts: Sequence[str], context: str = "", annotator: str = "") -> Handout:
    """The texts as items i0, i1, ...; the last one with a context."""
    items = [BatchItem(f"i{n}", text, text_hash(text)) for n, text in enumerate(texts)]
    items[-1] = BatchItem(items[-1].item_id, items[-1].text, items[-1].text_hash, context)
    return Handout("b0001-training", LABELS, items, annotator, {"i0": Proposal("i0", "entropy", 0.25, 1)})


def known_items(texts: Sequence[str] = ("Floods hit", "Council meets")) -> list[BatchItem]:
    """The items i0, i1, ... of the fixtures."""
    return [BatchItem(f"i{n}", text, text_hash(text)) for n, text in enumerate(texts)]


def answered(rows: Sequence[FilledRow], handout: Handout) -> dict[str, dict[str, tuple[str, str]]]:
    """Annotator -> item_id -> (answer, note), of rows that `check_rows` takes one and all; for every row its cells."""
    for row in rows:
        ids = {"item_id", "batch_id", "text_hash", "workspace_id"}
        assert {"label", "note", "annotator", "text", *ids} >= set(row.cells)
        assert (row.cells["item_id"], row.cells["label"], row.batch_id) == (row.item_id, row.label, handout.batch_id)
        assert all(isinstance(cell, str) for cell in row.cells.values())
    answers, errors = check_rows(rows, handout.items, handout.label_set)
    assert [str(error) for error in errors] == []
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for answer in answers:
        assert answer.item_id not in found.setdefault(answer.annotator, {})
        found[answer.annotator][answer.item_id] = (answer.answer, answer.note)
    return found


def filled(*, bare: bool = False) -> st.SearchStrategy[Filled]:
    """Handouts with answers to some of the items; bare ones without odd ids."""
    characters = st.characters(exclude_categories=["Cs"])
    texts = st.one_of(st.sampled_from(NASTY), st.text(characters, min_size=1, max_size=40).filter(str.strip))
    ids = st.one_of(st.sampled_from(IDS), st.text(characters, min_size=1, max_size=12).map(str.strip).filter(bool))
    if bare:  # the pool takes no NUL: a small file with one looks like UTF-16
        ids = ids.filter(lambda item_id: not re.search(r"[\s,;\0]", item_id))
        texts = texts.filter(lambda text: "\0" not in text)

    @st.composite
    def draw(draw: st.DrawFn) -> Filled:
        pairs = draw(st.lists(st.tuples(ids, texts), min_size=1, max_size=6, unique_by=_apart))
        items = [BatchItem(item_id, text, text_hash(text), draw(st.sampled_from(["", "bo: related"])))
                 for item_id, text in pairs]  # fmt: skip
        given = {item.item_id: draw(st.sampled_from(["", *ANSWERS])) for item in items}
        answers = {item_id: answer for item_id, answer in given.items() if answer}
        return Filled(Handout("b0001-training", LABELS, items), answers)

    return draw()


_apart = (lambda pair: pair[0], lambda pair: text_hash(pair[1]))
