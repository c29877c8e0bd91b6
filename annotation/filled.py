"""What came back, whatever the format: rows as they stand in a file, checked against the batch they claim to be of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from annotation.label_set import AnswerError, LabelSet
from storage.records import Answer, BatchItem
from storage.text_hash import text_hash

UNNAMED = "unnamed"
"""The annotator of a row that names none."""


@dataclass(frozen=True)
class FilledRow:
    """A row as read: nothing checked yet.

    Attributes:
        row: Where it stands in the file, as an editor counts (1-based).
        text: None where the file has no such column.
        text_hash: None where the file has no such column.
        lossy_encoding: The file's encoding where that cannot write every character; None where it can.
        cells: The row as it stood, by column, to give it back with its error.
    """

    row: int
    batch_id: str
    item_id: str
    label: str
    text: str | None = None
    text_hash: str | None = None
    note: str = ""
    annotator: str = ""
    seconds: float | None = None
    annotated_at: datetime | None = None
    lossy_encoding: str | None = None
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RowError:
    """A row that was not taken, and why, with the way out."""

    row: int
    column: str
    value: str
    reason: str
    cells: Mapping[str, str]

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column}: {self.value!r}: {self.reason}"


def check_rows(
    rows: Sequence[FilledRow], items: Sequence[BatchItem], label_set: LabelSet
) -> tuple[list[Answer], list[RowError]]:
    """The answers of one batch's rows, and every row that is none; empty answers are neither.

    A row counts for the item that both its id and its text name: a file in which one column was sorted alone gives
    errors, not wrong labels.
    """
    by_id = {item.item_id: item for item in items}
    by_hash = {item.text_hash: item for item in items}
    answers: list[Answer] = []
    errors: list[RowError] = []
    given: dict[tuple[str, str], tuple[str, int]] = {}
    for row in rows:
        try:
            value = label_set.answer(row.label)
        except AnswerError as error:
            errors.append(RowError(row.row, "label", row.label, f"{error.what} {error.hint}", row.cells))
            continue
        if value is None:
            continue
        item = by_id.get(row.item_id) or by_id.get(_integral(row.item_id)) or by_hash.get(_hash_of(row))
        if item is None:
            errors.append(_error(row, "item_id", row.item_id, f"not an item of batch {row.batch_id}"))
            continue
        if fault := _other_text(row, item):
            errors.append(fault)
            continue
        annotator = row.annotator.strip() or UNNAMED
        before = given.get((item.item_id, annotator))
        if before and before[0] != value and row.annotated_at is None:
            errors.append(
                _error(row, "label", row.label, f"row {before[1]} answers {before[0]!r} for the same item; keep one")
            )
            continue
        given[item.item_id, annotator] = (value, row.row)
        answers.append(Answer(item.item_id, value, annotator, row.note.strip(), row.seconds, row.annotated_at))
    return answers, errors


def _other_text(row: FilledRow, item: BatchItem) -> RowError | None:
    """The error of a row whose text is not the one of its item."""
    if row.text is None and row.text_hash is None:
        return _error(row, "text", "", "the file has neither a text nor a text_hash column; put one back")
    if row.text is not None and _hash_of(row) != item.text_hash:
        known = {text_hash(item.text)}
        if row.lossy_encoding:
            known.add(text_hash(item.text.encode(row.lossy_encoding, "replace").decode(row.lossy_encoding)))
        if _hash_of(row) not in known:
            reason = f"item {item.item_id} reads {item.text[:80]!r}; was one column sorted alone, or the text edited?"
            return _error(row, "text", row.text[:80], reason)
    if row.text is None and row.text_hash != item.text_hash:
        return _error(row, "text_hash", row.text_hash or "", f"item {item.item_id} has {item.text_hash}")
    return None


def _error(row: FilledRow, column: str, value: str, reason: str) -> RowError:
    return RowError(row.row, column, value, reason, row.cells)


def _hash_of(row: FilledRow) -> str:
    return text_hash(row.text) if row.text is not None else row.text_hash or ""


def _integral(item_id: str) -> str:
    """A numeric id as it was before a spreadsheet made it a float: `284006.0` or `2.84006E+05` -> `284006`."""
    if not re.fullmatch(r"\d+(\.\d+)?([eE]\+?\d+)?", item_id):
        return item_id
    value = float(item_id)
    return str(int(value)) if value.is_integer() and value < 2**53 else item_id
