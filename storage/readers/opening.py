"""Open a file of texts: `open_source` detects its format and chooses the reader."""

from __future__ import annotations

from pathlib import Path

from storage.readers.columns import ColumnRequest
from storage.readers.delimited import open_delimited
from storage.readers.file_kinds import find_encoding, is_json, is_parquet, is_zip, known_encoding, readable_file
from storage.readers.json_lines import open_json
from storage.readers.parquet import open_parquet
from storage.readers.source import Source
from storage.readers.workbooks import open_workbook


def open_source(
    path: Path | str,
    *,
    text_column: str | int | None = None,
    id_column: str | int | None = None,
    label_column: str | int | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Source:
    """Open a file of texts; format, encoding, delimiter and columns are detected unless they are given.

    Args:
        path: A file in CSV, TSV, plain text (one text per line), Excel (.xlsx), JSON or Parquet; its content decides.
        text_column: The name of the text column, or its number from 1.
        id_column: The name or number of the id column; a file may have none.
        label_column: The name or number of the label column, or "" to detect it; None does not read labels.
        encoding: The encoding, by any name that Python knows.
        delimiter: One character, or a name such as `tab`.

    Raises:
        SourceError: The file cannot be read, is not a file of texts, or the choice of a column is ambiguous.
    """
    path = Path(path)
    head = readable_file(path, or_workbook=True)
    request = ColumnRequest(*(None if name is None else str(name) for name in (text_column, id_column, label_column)))
    if is_parquet(head):
        return open_parquet(path, request)
    if is_zip(head):
        return open_workbook(path, request)
    encoding = known_encoding(encoding) if encoding else find_encoding(path, head)
    if delimiter is None and is_json(path, head, encoding):
        return open_json(path, encoding, request)
    return open_delimited(path, encoding, request, delimiter)
