"""The one door for a file of texts to import: what it is decides which reader opens it."""

from __future__ import annotations

from pathlib import Path

from storage.readers.delimited import open_delimited
from storage.readers.file_kinds import find_encoding, is_json_lines, is_parquet, known_encoding, readable_file
from storage.readers.json_lines import open_json_lines
from storage.readers.parquet import open_parquet
from storage.readers.source import Source


def open_source(
    path: Path | str,
    *,
    text_column: str | int | None = None,
    id_column: str | int | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Source:
    """Find out what a file of texts is.

    Args:
        path: CSV, TSV, plain text (one text a line), JSON lines or Parquet, told by content.
        text_column: name of the column of texts, or its number from 1; found out when left out.
        id_column: the same for the ids; a file may have none.
        encoding: as Python names it; found out when left out.
        delimiter: one character, or `tab`; found out when left out.

    Raises:
        SourceError: no such file, not a file of texts, or columns that cannot be told.
    """
    path = Path(path)
    head = readable_file(path)
    text_name = None if text_column is None else str(text_column)
    id_name = None if id_column is None else str(id_column)
    if is_parquet(head):
        return open_parquet(path, text_column=text_name, id_column=id_name)
    spelled = known_encoding(encoding) if encoding else find_encoding(path, head)
    if delimiter is None and is_json_lines(path, head, spelled):
        return open_json_lines(path, spelled, text_column=text_name, id_column=id_name)
    return open_delimited(path, spelled, delimiter=delimiter, text_column=text_name, id_column=id_name)
