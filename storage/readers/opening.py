"""The one door for a file of texts to import: what it is decides which reader opens it."""

from __future__ import annotations

from pathlib import Path

from storage.readers.columns import Asked
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
    """Find out what a file of texts is.

    Args:
        path: CSV, TSV, plain text (one text a line), an Excel workbook, JSON or Parquet, told by content.
        text_column: name of the column of texts, or its number from 1; found out when left out.
        id_column: the same for the ids; a file may have none.
        label_column: the same for the labels, which are read with it: found out when empty, not read when left out.
        encoding: as Python names it; found out when left out.
        delimiter: one character, or `tab`; found out when left out.

    Raises:
        SourceError: no such file, not a file of texts, or columns that cannot be told.
    """
    path = Path(path)
    head = readable_file(path, or_workbook=True)
    asked = Asked(*(None if name is None else str(name) for name in (text_column, id_column, label_column)))
    if is_parquet(head):
        return open_parquet(path, asked)
    if is_zip(head):
        return open_workbook(path, asked)
    spelled = known_encoding(encoding) if encoding else find_encoding(path, head)
    if delimiter is None and is_json(path, head, spelled):
        return open_json(path, spelled, asked)
    return open_delimited(path, spelled, asked, delimiter)
