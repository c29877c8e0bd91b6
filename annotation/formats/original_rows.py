"""The original scripts' files: ID,TEXT,LABEL,SAMPLING_STRATEGY,CONFIDENCE without header go out and come back."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from annotation.checks import FilledRow
from annotation.formats.csv_file import as_unicode, filled_row
from annotation.handout import Handout
from storage.errors import BatchError, SourceError
from storage.readers.columns import known_name
from storage.readers.delimited import sample_lines
from storage.readers.file_kinds import readable_file
from storage.readers.lines import Dialect, Record, blank, parse_lines, read_records
from storage.readers.original_directory import WIDEST, original_dialect
from storage.readers.source import Reject
from storage.records import BatchItem, Proposal

_LINES = 65_536
"""Lines of a file read at a time."""


def write_original(path: Path, handout: Handout) -> None:
    """Write the items with an empty label; as the scripts do, without a BOM, and texts like formulas as they are.

    Ids are as the scripts have them: of ids with white space, `,` or `;` the delimiter may be told wrongly on return.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(_row(item, handout.proposals.get(item.item_id)) for item in handout.items)


def is_original(path: Path) -> bool:
    """Whether a file's rows look like it: no header, and three to five values in most."""
    try:
        readable_file(path)
        dialect = original_dialect(path)
        lines = sample_lines(path, dialect.encoding)
    except (SourceError, OSError):
        return False
    records = [record for record in parse_lines(dialect, lines, final=True)[0] if not blank(record)]
    fitting = sum(3 <= len(record) <= WIDEST for record in records)
    header = records and sum(map(known_name, records[0])) > 1
    return not header and 2 * fitting > len(records)


def read_original(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Every row with a label in its third place; rows of two values are not answered yet, blank ones left out.

    A row that cannot be told apart into values is given with all of it as label: that is no answer, and is reported.

    Args:
        batch_id: Of all rows: they name none.

    Raises:
        BatchError: The file cannot be read.
    """
    try:
        readable_file(path)
        dialect = replace(
            original_dialect(path), widest=1_000_000
        )  # of a row too wide the text, cut off, is not its item's
        parts = list(read_records(path, dialect, _LINES))
    except SourceError as error:
        raise BatchError(error.what, hint="rows are: id,text,label") from error
    rows = [
        _filled(dialect, int(row), record, batch_id)
        for part in parts
        for row, record in zip(part.rows, part.records, strict=True)
    ]
    rows += [_broken(reject, batch_id) for part in parts for reject in part.rejects]
    return sorted(rows, key=lambda row: row.row)


def _row(item: BatchItem, proposal: Proposal | None) -> Iterable[str | float]:
    strategy, score = ("", None) if proposal is None else (proposal.strategy, proposal.score)
    return (item.item_id, as_unicode(item.text), "", strategy, "" if score is None else score)


def _filled(dialect: Dialect, row: int, record: Record, batch_id: str) -> FilledRow:
    cells = dict(zip(("item_id", "text", "label"), map(as_unicode, [*record, ""]), strict=False))
    lossy = None if dialect.encoding.startswith("utf-") else dialect.encoding
    return filled_row(row, cells, batch_id, lossy=lossy)


def _broken(reject: Reject, batch_id: str) -> FilledRow:
    return filled_row(reject.row, {"item_id": "", "label": as_unicode(reject.value)}, batch_id)
