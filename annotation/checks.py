"""Checks the rows of filled files, of any format, against the batch that they claim to belong to."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from annotation.label_set import AnswerError, LabelSet
from storage.lake.history import EarlierText
from storage.readers.spellings import HASH_CHARS, folded, old_text_hash, text_hash
from storage.records import UNNAMED, Answer, BatchItem

MOST_IN_A_CELL = 32_000
"""UTF-16 units that every spreadsheet keeps; Excel truncates a text after 32,767."""

MOST_IN_A_NOTE = 10_000
MOST_IN_A_NAME = 200

_LONGEST_S = 1e6
"""Longer durations, and negative ones after a change of the clock, are left out of an answer."""
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)

_NUMBER = re.compile(r"[0-9]{1,40}([.,][0-9]{1,40})?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\u200b\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class FilledFile:
    """A file to ingest.

    Attributes:
        batch_id: The batch in whose folder the file is; empty for other files, whose rows name their batch.
        in_inbox: Whether the file is moved away after it was ingested.
        annotator: The annotator whom it was made for; the default for rows without a name.
    """

    path: Path
    batch_id: str = ""
    in_inbox: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class FilledRow:
    """A row as read, not checked yet.

    Attributes:
        row: The row number as a spreadsheet counts (1-based), or the number of the entry in a JSON list, from 1.
        text: None if the file has no such column.
        text_hash: None if the file has no such column.
        lossy_encoding: The file's encoding if it cannot represent every character, else None.
        cells: The original cells by column, for the list of errors.
        part: The file within an archive; empty outside of archives.
        workspace_id: The workspace named in the file; empty if none is.
        is_logged: Whether the file lists answers in the order in which they were given.
        fault: Why the line cannot be read; its beginning is in `label`.
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
    part: str = ""
    workspace_id: str = ""
    is_logged: bool = False
    fault: str = ""


@dataclass(frozen=True)
class RowError:
    """A rejected row, with the reason and a remedy.

    Attributes:
        item_id: The item, if the row answers an earlier text of it; empty otherwise.
    """

    row: int
    column: str
    value: str
    reason: str
    cells: Mapping[str, str]
    part: str = ""
    item_id: str = ""

    def __str__(self) -> str:
        place = f"{self.part}, " if self.part else ""
        return f"{place}row {self.row}, column {self.column}: {self.value!r}: {self.reason}"


class ItemNames:
    """Finds the item of a row by its id, by the hash of its text, or by its id as a number.

    Args:
        earlier: Texts of the items before they were corrected.
        outdated: Answers of the batch to these texts: (item_id, `folded` annotator, answer).
        erased: Hashes of texts that were erased from the workspace.
    """

    def __init__(
        self,
        items: Sequence[BatchItem],
        earlier: Sequence[EarlierText] = (),
        outdated: Collection[tuple[str, str, str]] = (),
        erased: Collection[str] = (),
    ) -> None:
        self.outdated, self.erased = outdated, erased
        self._earlier = earlier
        by_id = {number: item for item in items if (number := _number(item.item_id)) is not None}
        self._items_by_name: dict[object, BatchItem] = by_id | {old_text_hash(item.text): item for item in items}
        items_by_id: dict[object, BatchItem] = {item.item_id: item for item in items}
        self._items_by_name |= {
            edit.text_hash: items_by_id[edit.item_id] for edit in earlier if edit.item_id in items_by_id
        }
        self._items_by_name |= {item.text_hash: item for item in items}
        self._items_by_name |= items_by_id

    def of(self, row: FilledRow, digest: str | None) -> BatchItem | None:
        """The item that a row names, by its id first; None if there is no such item.

        Args:
            digest: The row's text_hash if it is well-formed.
        """
        names = (row.item_id, digest, text_hash(row.text or ""), _number(row.item_id))
        return next((self._items_by_name[name] for name in names if name in self._items_by_name), None)

    def earlier_text(self, row: FilledRow, item: BatchItem, digest: str | None) -> EarlierText | None:
        """The earlier text of an item that a row has; None if it has the present text or an unrelated one."""
        if _reads(row, item) if row.text is not None else digest == item.text_hash:
            return None
        for edit in self._earlier:
            before = replace(item, text=edit.text, text_hash=edit.text_hash)
            if edit.item_id == item.item_id and (
                _reads(row, before) if row.text is not None else digest == edit.text_hash
            ):
                return edit
        return None


def check_rows(
    rows: Sequence[FilledRow], items: Sequence[BatchItem] | ItemNames, label_set: LabelSet
) -> tuple[list[Answer], list[RowError]]:
    """Check the rows of one batch: returns the answers and the rejected rows; rows without an answer are neither.

    The id, the text and the text_hash of a row must all name the same item, so a file in which a single column was
    sorted gives errors instead of wrong labels. Contradicting rows without a time are all errors.
    """
    names = items if isinstance(items, ItemNames) else ItemNames(items)
    errors: list[RowError] = []
    by_annotator: dict[tuple[str, str], list[tuple[FilledRow, Answer]]] = {}
    for row in rows:
        try:
            value = label_set.answer(row.label)
        except AnswerError as error:
            errors.append(_error(row, "label", row.label, f"{error.what} {error.hint}"))
            continue
        if value is None:
            continue
        if len(row.note) > MOST_IN_A_NOTE:
            reason = f"the note has {len(row.note):,} characters; at most {MOST_IN_A_NOTE:,} are kept; shorten it"
            errors.append(_error(row, "note", row.note[:80], reason))
            continue
        annotator = readable_name(row.annotator)
        if len(annotator) > MOST_IN_A_NAME:
            reason = f"the name has {len(annotator):,} characters; at most {MOST_IN_A_NAME} are kept; correct it"
            errors.append(_error(row, "annotator", annotator[:80], reason))
            continue
        item, note = _item_of(row, names), _UNPRINTABLE.sub("", row.note).strip()
        if isinstance(item, RowError):
            if (item.item_id, folded(annotator), value) not in names.outdated:  # else: in the lake already
                errors.append(item)
            continue
        seconds = row.seconds if row.seconds is not None and 0 <= row.seconds <= _LONGEST_S else None
        answer = Answer(item.item_id, value, annotator, note, seconds, row.annotated_at)
        by_annotator.setdefault((item.item_id, annotator), []).append((row, answer))
    answers = []
    for answered_rows in by_annotator.values():
        settled, contradictions = _settled(answered_rows)
        answers += settled
        errors += contradictions
    return answers, sorted(errors, key=lambda error: error.row)


def readable_name(annotator: str) -> str:
    """An annotator's name on one line, without characters that cannot be shown or stored, such as NUL."""
    return " ".join(_UNPRINTABLE.sub("", annotator).split()) or UNNAMED


def is_plausible(annotated_at: datetime | None, now: datetime) -> bool:
    """Whether the time of an answer is possible; None is."""
    return annotated_at is None or _EARLIEST <= annotated_at <= now + _AHEAD


def _settled(answered_rows: list[tuple[FilledRow, Answer]]) -> tuple[list[Answer], list[RowError]]:
    """One annotator's answers to one item: a history if they have times, else one answer or a contradiction.

    The history is ordered by time if all times are plausible, else as in the file.
    """
    answers = [answer for _, answer in answered_rows]
    if len(answers) == 1 or all(answer.annotated_at for answer in answers):
        now = datetime.now(UTC)
        if len(answers) > 1 and all(
            not row.is_logged and is_plausible(answer.annotated_at, now) for row, answer in answered_rows
        ):
            answers.sort(key=lambda answer: answer.annotated_at or now)
        return answers, []
    if len({answer.answer for answer in answers}) == 1:
        return [replace(answers[0], note="; ".join(dict.fromkeys(a.note for a in answers if a.note)))], []
    contradiction = ", ".join(
        f"{f'{row.part}, ' if row.part else ''}row {row.row}: {answer.answer!r}" for row, answer in answered_rows
    )
    reason = f"the item has different answers ({contradiction}); keep one of these rows"
    return [], [_error(row, "label", row.label, reason) for row, _ in answered_rows]


def _item_of(row: FilledRow, names: ItemNames) -> BatchItem | RowError:
    """The item that all cells of a row agree on, or the row's error."""
    digest = row.text_hash if row.text_hash and re.fullmatch(f"[0-9a-f]{{{HASH_CHARS}}}", row.text_hash) else None
    if row.text is None and digest is None:
        reason = "the row has neither a text nor a complete text_hash; restore one of them as published"
        return _error(row, "text_hash", row.text_hash or "", reason)
    item = names.of(row, digest)
    if item is None and (digest in names.erased or text_hash(row.text or "") in names.erased):
        return _error(row, "item_id", row.item_id, "the text was erased (pal items erase); delete the row")
    if item is None:
        reason = f"neither the id nor the text is of an item of batch {row.batch_id}; restore the id as published"
        return _error(row, "item_id", row.item_id, reason)
    if edit := names.earlier_text(row, item, digest):
        reason = (
            f"the text of item {item.item_id} was corrected on {edit.edited_at:%Y-%m-%d %H:%M} UTC; this answer is "
        )
        reason += "to the earlier text and does not count. Answer the corrected text; pal status lists open batches"
        return replace(_error(row, "text", edit.text[:80], reason), item_id=item.item_id)
    if_sorted = f"if a single column was sorted, answer this item again: pal annotate {row.batch_id}"
    if row.text is not None and not _reads(row, item):
        reason = f"item {item.item_id} has the text {item.text[:80]!r}; if the text was edited, restore it; {if_sorted}"
        return _error(row, "text", row.text[:80], reason)
    if digest not in (None, item.text_hash, old_text_hash(item.text)):
        reason = f"item {item.item_id} has the hash {item.text_hash}; if the hash was edited, restore it; {if_sorted}"
        return _error(row, "text_hash", digest or "", reason)
    known_id = row.item_id in ("", item.item_id) or _same_number(row.item_id, item.item_id)
    if not known_id and (row.text is None or digest is None):
        reason = f"the row has the text of item {item.item_id}; if the id was edited, restore it; {if_sorted}"
        return _error(row, "item_id", row.item_id, reason)
    return item


def _reads(row: FilledRow, item: BatchItem) -> bool:
    """Whether a row's text is that of its item, allowing for the changes that spreadsheets make."""
    text = row.text or ""
    if text_hash(text) == item.text_hash:
        return True
    cell, accepted = _bare(text), [_bare(item.text)]
    if row.lossy_encoding:  # Python writes one `?` for an unsupported character, Excel one for each UTF-16 unit
        for original in (item.text, re.sub("[\U00010000-\U0010ffff]", "??", item.text)):
            accepted.append(_bare(original.encode(row.lossy_encoding, "replace").decode(row.lossy_encoding, "replace")))
    cut_off = len(text.encode("utf-16-le", "surrogatepass")) >= 2 * MOST_IN_A_CELL and accepted[0].startswith(cell)
    return cell in accepted or cut_off or _same_number(text, item.text)


def _bare(text: str) -> str:
    """`text` without what spreadsheets lose: spacing, invisible characters, and a leading ' (text marker)."""
    return folded(_UNPRINTABLE.sub("", text)).lstrip("' ")


def _number(cell: str) -> Decimal | None:
    """The number that a spreadsheet reads in a cell, as in `007`, `284006.0` and `2.84006E+05`; None for other text."""
    return Decimal(cell.strip().replace(",", ".")) if _NUMBER.fullmatch(cell.strip()) else None


def _same_number(cell: str, original: str) -> bool:
    """Whether `cell` is `original` as a number with the 6 to 15 digits that spreadsheets keep."""
    number, exact = _number(cell), _number(original)
    if number is None or exact is None:
        return False
    digits = len(number.as_tuple().digits)
    return number == exact or (digits >= 6 and "e" in cell.lower() and number == Decimal(f"{exact:.{digits - 1}e}"))


def _error(row: FilledRow, column: str, value: str, reason: str) -> RowError:
    return RowError(row.row, column, value, reason, row.cells, row.part)
