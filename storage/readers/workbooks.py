"""Read texts from Excel workbooks (.xlsx): from the first visible sheet that has rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.readers.columns import ColumnRequest, choose_columns, layout_of, unique_names
from storage.readers.delimited import SAMPLE_LINES, chunk_of, find_header
from storage.readers.lines import Records, blank
from storage.readers.sheets import WorkbookReader
from storage.readers.source import Chunk, Layout, Reject, Source, shortened

NO_VALUE = "holds a formula whose value was not saved: open the file in a spreadsheet and save it"


def open_workbook(path: Path, request: ColumnRequest) -> Source:
    """Detect the sheet and the columns to read: the first visible sheet with rows below a header, else the first.

    Raises:
        SourceError: The file cannot be read or has no rows, or the choice of a column is ambiguous.
    """
    sheets = [sheet for sheet in WorkbookReader().sheets(path) if sheet.rows]
    if not sheets:
        raise SourceError(f"{path} has no rows.", hint="A file needs at least one text.")
    sheet = next((sheet for sheet in sheets if not sheet.hidden and len(sheet.rows) > 1), sheets[0])
    notes = [f"Skipped sheet {other.name!r}." for other in sheets if other is not sheet]
    numbers, records = list(sheet.rows), list(sheet.rows.values())
    width = max(map(len, records))
    records = [record + [""] * (width - len(record)) for record in records]
    head, body = find_header(path, records[:SAMPLE_LINES], request)
    names = records[head] if head is not None else None
    notes += [
        f"Skipped row {numbers[i]}, which is not data: {shortened(' '.join(filter(None, records[i])))!r}."
        for i in range(body - (head is not None))
    ]
    if body == len(records):
        raise SourceError(f"{path} has a header but no rows.", hint="A file needs at least one text.")
    sample = records[body : body + SAMPLE_LINES]
    columns = choose_columns(path, names, sample, request)
    titles = unique_names(names if names is not None else [""] * width)
    size = path.stat().st_size

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        checked = {*columns.texts} if all_columns else columns.used - {*columns.context.values()}
        used = {position + 1 for position in checked}
        valueless = {row for row, column in sheet.formulas if column in used}
        for start in range(body, len(records), count):
            rows = range(start, min(start + count, len(records)))
            good = [i for i in rows if numbers[i] not in valueless and not blank(records[i])]
            malformed = {numbers[i]: records[i] for i in rows if numbers[i] in valueless}
            rejects = [
                Reject(str(path), row, shortened(" ".join(filter(None, record))), NO_VALUE)
                for row, record in malformed.items()
            ]
            good_numbers = np.array([numbers[i] for i in good], dtype=np.int64)
            bytes_read = size * rows.stop // len(records)
            part = Records([records[i] for i in good], good_numbers, rejects, bytes_read, malformed)
            yield chunk_of(path, columns, part, " ", titles if all_columns else None)

    form = Layout(f"Excel workbook, sheet {sheet.name!r}, {'header' if names else 'no header'}", notes=notes)
    return Source(path, size, layout_of(form, columns, names, sample, path), read)
