"""Excel workbooks (.xlsx) as files of texts: the first sheet in sight that has rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.readers.columns import Asked, choose_columns, layout_of, unique_names
from storage.readers.delimited import SAMPLE_LINES, chunk_of, find_header
from storage.readers.lines import Records, blank
from storage.readers.sheets import WorkbookReader
from storage.readers.source import Chunk, Layout, Reject, Source, shortened

NO_VALUE = "holds a formula whose value was not saved: open the file in a spreadsheet and save it"


def open_workbook(path: Path, asked: Asked) -> Source:
    """Find out which sheet and which of its columns matter: the first sheet in sight that has rows.

    Raises:
        SourceError: It cannot be read, has no rows, or columns that cannot be told.
    """
    sheets = [sheet for sheet in WorkbookReader().sheets(path) if sheet.rows]
    if not sheets:
        raise SourceError(f"{path} holds no rows.", hint="A file needs at least one text.")
    sheet = next((each for each in sheets if not each.hidden and len(each.rows) > 1), sheets[0])
    notes = [f"Sheet {each.name!r} is not read." for each in sheets if each is not sheet]
    numbers, records = list(sheet.rows), list(sheet.rows.values())
    width = max(map(len, records))
    records = [record + [""] * (width - len(record)) for record in records]
    head, body = find_header(path, records[:SAMPLE_LINES], asked)
    names = records[head] if head is not None else None
    notes += [
        f"Row {numbers[i]} is not data and is skipped: {shortened(' '.join(filter(None, records[i])))!r}."
        for i in range(body - (head is not None))
    ]
    if body == len(records):
        raise SourceError(f"{path} holds a header and no rows.", hint="A file needs at least one text.")
    sample = records[body : body + SAMPLE_LINES]
    columns = choose_columns(path, names, sample, asked)
    titles = unique_names(names if names is not None else [""] * width)
    size = path.stat().st_size

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        checked = {*columns.texts} if all_columns else columns.used - {*columns.context.values()}
        used = {at + 1 for at in checked}
        valueless = {row for row, column in sheet.formulas if column in used}
        for start in range(body, len(records), count):
            rows = range(start, min(start + count, len(records)))
            good = [i for i in rows if numbers[i] not in valueless and not blank(records[i])]
            unfit = {numbers[i]: records[i] for i in rows if numbers[i] in valueless}
            rejects = [
                Reject(str(path), row, shortened(" ".join(filter(None, record))), NO_VALUE)
                for row, record in unfit.items()
            ]
            at = np.array([numbers[i] for i in good], dtype=np.int64)
            part = Records([records[i] for i in good], at, rejects, size * rows.stop // len(records), unfit)
            yield chunk_of(path, columns, part, " ", titles if all_columns else None)

    form = Layout(f"Excel workbook, sheet {sheet.name!r}, {'header' if names else 'no header'}", notes=notes)
    return Source(path, size, layout_of(form, columns, names, sample, path), read)
