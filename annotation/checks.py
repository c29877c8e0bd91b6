"""What came back, whatever the format: rows as they stand in a file, checked against the batch they claim to be of."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from annotation.label_set import AnswerError, LabelSet
from storage.lake.edits import EarlierText
from storage.readers.spellings import HASH_CHARS, folded, old_text_hash, text_hash
from storage.records import UNNAMED, Answer, BatchItem

MOST_IN_A_CELL = 32_000
"""UTF-16 units that every spreadsheet keeps; Excel cuts a text off after 32,767."""

MOST_IN_A_NOTE = 10_000

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)

_NUMBER = re.compile(r"[0-9]{1,40}([.,][0-9]{1,40})?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\u200b\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class FilledFile:
    """A file to ingest.

    Attributes:
        batch_id: The batch whose folder it lies in; empty for a file from elsewhere, whose rows name theirs.
        in_inbox: It is put away once it is ingested.
        annotator: Whom it was handed to; of rows that name nobody.
    """

    path: Path
    batch_id: str = ""
    in_inbox: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class FilledRow:
    """A row as read: nothing checked yet.

    Attributes:
        row: Where it stands in the file, as a spreadsheet counts (1-based); of a JSON list the entry, from 1.
        text: None where the file has no such column.
        text_hash: None where the file has no such column.
        lossy_encoding: The file's encoding where that cannot write every character; None where it can.
        cells: The row as it stood, by column, to give it back with its error.
        part: The file in an archive that it stands in; empty outside of one.
        workspace_id: Of the workspace that asked, as the file says; empty where it does not.
        is_logged: Its file has the answers in the order in which they were given.
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


@dataclass(frozen=True)
class RowError:
    """A row that was not taken, and why, with the way out.

    Attributes:
        item_id: Of an answer to an earlier text of this item; empty otherwise.
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
    """The items of a batch by everything that may name one in a row: id, hash of the text, the id as a number.

    Args:
        earlier: Texts that they had until they were corrected.
        outdated: The answers that the batch got to these: (item_id, `folded` annotator, answer).
    """

    def __init__(
        self,
        items: Sequence[BatchItem],
        earlier: Sequence[EarlierText] = (),
        outdated: Collection[tuple[str, str, str]] = (),
    ) -> None:
        self.outdated = outdated
        self._earlier = earlier
        by_id = {number: item for item in items if (number := _number(item.item_id)) is not None}
        self._named: dict[object, BatchItem] = by_id | {old_text_hash(item.text): item for item in items}
        items_by_id: dict[object, BatchItem] = {item.item_id: item for item in items}
        self._named |= {each.text_hash: items_by_id[each.item_id] for each in earlier if each.item_id in items_by_id}
        self._named |= {item.text_hash: item for item in items}
        self._named |= items_by_id

    def of(self, row: FilledRow, digest: str | None) -> BatchItem | None:
        """The item that a row names in one of these ways, the id first; None where it names none.

        Args:
            digest: The row's text_hash, where that is whole.
        """
        ways = (row.item_id, digest, text_hash(row.text or ""), _number(row.item_id))
        return next((self._named[way] for way in ways if way in self._named), None)

    def earlier_text(self, row: FilledRow, item: BatchItem, digest: str | None) -> EarlierText | None:
        """The earlier text of an item that a row has; None where it has the text of now, or another one."""
        if _reads(row, item) if row.text is not None else digest == item.text_hash:
            return None
        for each in self._earlier:
            was = replace(item, text=each.text, text_hash=each.text_hash)
            if each.item_id == item.item_id and (
                _reads(row, was) if row.text is not None else digest == each.text_hash
            ):
                return each
        return None


def check_rows(
    rows: Sequence[FilledRow], items: Sequence[BatchItem] | ItemNames, label_set: LabelSet
) -> tuple[list[Answer], list[RowError]]:
    """The answers of one batch's rows, and every row that is none; empty answers are neither.

    A row counts for the item that its id, its text and its text_hash all name: a file in which one column was sorted
    alone gives errors, not wrong labels. Rows without a time that contradict each other are errors, all of them.
    """
    names = items if isinstance(items, ItemNames) else ItemNames(items)
    errors: list[RowError] = []
    given: dict[tuple[str, str], list[tuple[FilledRow, Answer]]] = {}
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
        item, annotator = _item_of(row, names), row.annotator.strip() or UNNAMED
        if isinstance(item, RowError):
            if (item.item_id, folded(annotator), value) not in names.outdated:  # else the lake has it from before
                errors.append(item)
            continue
        answer = Answer(item.item_id, value, annotator, row.note.strip(), row.seconds, row.annotated_at)
        given.setdefault((item.item_id, annotator), []).append((row, answer))
    answers = []
    for same in given.values():
        settled, contradictions = _settled(same)
        answers += settled
        errors += contradictions
    return answers, sorted(errors, key=lambda error: error.row)


def is_plausible(at: datetime | None, now: datetime) -> bool:
    """Whether an answer can have been given at a time; one without a time can."""
    return at is None or _EARLIEST <= at <= now + _AHEAD


def _settled(same: list[tuple[FilledRow, Answer]]) -> tuple[list[Answer], list[RowError]]:
    """One annotator's answers to one item: a history where they have times, else one answer or a contradiction.

    The history has the order of the times, where all of them are plausible; else that of the file.
    """
    answers = [answer for _, answer in same]
    if len(same) == 1 or all(answer.annotated_at for answer in answers):
        now = datetime.now(UTC)
        if len(same) > 1 and all(not row.is_logged and is_plausible(each.annotated_at, now) for row, each in same):
            answers.sort(key=lambda answer: answer.annotated_at or now)
        return answers, []
    if len({answer.answer for answer in answers}) == 1:
        return [replace(answers[0], note="; ".join(dict.fromkeys(a.note for a in answers if a.note)))], []
    given = ", ".join(
        f"{f'{row.part}, ' if row.part else ''}row {row.row} answers {answer.answer!r}" for row, answer in same
    )
    reason = f"the same item is answered in more than one way ({given}); keep one of these rows"
    return [], [_error(row, "label", row.label, reason) for row, _ in same]


def _item_of(row: FilledRow, names: ItemNames) -> BatchItem | RowError:
    """The item that everything in a row names, or what is wrong with the row."""
    digest = row.text_hash if row.text_hash and re.fullmatch(f"[0-9a-f]{{{HASH_CHARS}}}", row.text_hash) else None
    if row.text is None and digest is None:
        reason = "the row has neither a text nor a whole text_hash; put one back as it was published"
        return _error(row, "text_hash", row.text_hash or "", reason)
    item = names.of(row, digest)
    if item is None:
        reason = f"not an item of batch {row.batch_id}, and neither is the text; put the id back as it was published"
        return _error(row, "item_id", row.item_id, reason)
    if was := names.earlier_text(row, item, digest):
        reason = f"the text of item {item.item_id} was corrected on {was.edited_at:%Y-%m-%d %H:%M} UTC; this answer is "
        reason += "to the earlier text and does not count. Answer the corrected one: see the open batches in pal status"
        return replace(_error(row, "text", was.text[:80], reason), item_id=item.item_id)
    way_out = f"if one column was sorted alone, answer this item again: pal annotate {row.batch_id}"
    if row.text is not None and not _reads(row, item):
        reason = f"item {item.item_id} reads {item.text[:80]!r}; if the text was edited, write that back; {way_out}"
        return _error(row, "text", row.text[:80], reason)
    if digest not in (None, item.text_hash, old_text_hash(item.text)):
        reason = f"item {item.item_id} has {item.text_hash}; if the hash was edited, write that back; {way_out}"
        return _error(row, "text_hash", digest or "", reason)
    known_id = row.item_id in ("", item.item_id) or _same_number(row.item_id, item.item_id)
    if not known_id and (row.text is None or digest is None):
        reason = f"the row's text is that of item {item.item_id}; if the id was edited, write that; {way_out}"
        return _error(row, "item_id", row.item_id, reason)
    return item


def _reads(row: FilledRow, item: BatchItem) -> bool:
    """Whether a row's text is its item's, as well as spreadsheets keep a text."""
    text = row.text or ""
    if text_hash(text) == item.text_hash:
        return True
    cell, kept = _bare(text), [_bare(item.text)]
    if (
        row.lossy_encoding
    ):  # Python writes one `?` for a character that an encoding lacks, Excel one for each UTF-16 unit
        for original in (item.text, re.sub("[\U00010000-\U0010ffff]", "??", item.text)):
            kept.append(_bare(original.encode(row.lossy_encoding, "replace").decode(row.lossy_encoding, "replace")))
    cut_off = len(text.encode("utf-16-le", "surrogatepass")) >= 2 * MOST_IN_A_CELL and kept[0].startswith(cell)
    return cell in kept or cut_off or _same_number(text, item.text)


def _bare(text: str) -> str:
    """`text` without what spreadsheets lose: spacing, characters nobody sees, and the ' that means "as text" there."""
    return folded(_UNPRINTABLE.sub("", text)).lstrip("' ")


def _number(cell: str) -> Decimal | None:
    """The number that a spreadsheet takes a cell for: `007`, `284006.0` and `2.84006E+05` are numbers."""
    return Decimal(cell.strip().replace(",", ".")) if _NUMBER.fullmatch(cell.strip()) else None


def _same_number(cell: str, original: str) -> bool:
    """Whether `cell` is what a spreadsheet, which keeps 6 to 15 digits, makes of `original`."""
    number, whole = _number(cell), _number(original)
    if number is None or whole is None:
        return False
    digits = len(number.as_tuple().digits)
    return number == whole or (digits >= 6 and "e" in cell.lower() and number == Decimal(f"{whole:.{digits - 1}e}"))


def _error(row: FilledRow, column: str, value: str, reason: str) -> RowError:
    return RowError(row.row, column, value, reason, row.cells, row.part)
