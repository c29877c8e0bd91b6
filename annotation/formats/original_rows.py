"""The file format of the original scripts: ID,TEXT,LABEL,SAMPLING_STRATEGY,CONFIDENCE without a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from annotation.checks import FilledRow
from annotation.formats.csv_file import as_unicode, filled_row
from annotation.label_set import Handout
from storage.errors import BatchError, SourceError
from storage.readers.columns import known_name
from storage.readers.delimited import sample_lines
from storage.readers.file_kinds import readable_file
from storage.readers.lines import Dialect, Record, blank, parse_lines, read_records
from storage.readers.original_directory import WIDEST, original_dialect
from storage.readers.source import Reject
from storage.records import BatchItem, Proposal

_LINES = 65_536
"""Number of lines read at a time."""


def write_original(path: Path, handout: Handout) -> None:
    """Write the items with an empty label; like the scripts, without a BOM and without neutralizing formulas.

    Ids with white space, `,` or `;` may lead to a wrong delimiter when the file is read back.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(_row(item, handout.proposals.get(item.item_id)) for item in handout.items)


def is_original(path: Path) -> bool:
    """Whether a file looks like this format: no header, and three to five values in most rows."""
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
    """Read every row; the label is the third value, rows of two values have no answer, and blank rows are left out.

    An unparsable row has its whole content as label, which is reported as an invalid answer.

    Args:
        batch_id: The batch of all rows, since rows do not name it.

    Raises:
        BatchError: The file cannot be read.
    """
    try:
        readable_file(path)
        # With no limit on the width, a row that is too wide gives a text that differs from its item's.
        dialect = replace(original_dialect(path), widest=1_000_000)
        parts = list(read_records(path, dialect, _LINES))
    except SourceError as error:
        raise BatchError(error.what, hint="Write rows as id,text,label.") from error
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
