"""Open a file of texts: `open_source` detects its format and chooses the reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storage.readers.columns import ColumnRequest
from storage.readers.delimited import open_delimited
from storage.readers.file_kinds import (
    find_encoding,
    is_json,
    is_parquet,
    is_zip,
    known_encoding,
    readable_file,
    refuse_other_alphabets,
)
from storage.readers.json_lines import open_json
from storage.readers.parquet import open_parquet
from storage.readers.ris import is_ris, open_ris
from storage.readers.source import Source
from storage.readers.workbooks import open_workbook


def open_source(
    path: Path | str,
    *,
    text_column: str | int | Sequence[str] | None = None,
    id_column: str | int | None = None,
    label_column: str | int | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Source:
    """Open a file of texts; format, encoding, delimiter and columns are detected unless they are given.

    Args:
        path: A file in CSV, TSV, plain text (one text per line), Excel (.xlsx), JSON, RIS or Parquet, by its content.
        text_column: The name of the text column, or its number from 1; several columns are joined.
        id_column: The name or number of the id column; a file may have none.
        label_column: The name or number of the label column, or "" to detect it; None does not read labels.
        encoding: The encoding, by any name that Python knows.
        delimiter: One character, or a name such as `tab`.

    Raises:
        SourceError: The file cannot be read, is not a file of texts, or the choice of a column is ambiguous.
    """
    texts = [str(text_column)] if isinstance(text_column, str | int) else text_column or ()
    item_id, label = (None if name is None else str(name) for name in (id_column, label_column))
    return open_columns(Path(path), ColumnRequest(tuple(texts), item_id, label), encoding, delimiter)


def open_columns(
    path: Path, request: ColumnRequest, encoding: str | None = None, delimiter: str | None = None
) -> Source:
    """Open a file of texts as `open_source` does, with context columns that are kept with the texts.

    Raises:
        SourceError: As `open_source`.
    """
    head = readable_file(path, or_workbook=True)
    if is_parquet(head):
        return open_parquet(path, request)
    if is_zip(head):
        return open_workbook(path, request)
    if encoding:
        encoding = known_encoding(encoding)
    elif (encoding := find_encoding(path, head)) == "cp1252":
        refuse_other_alphabets(path)
    if is_ris(head.decode(encoding, "replace").lstrip("\ufeff")):
        return open_ris(path, encoding, request)
    if delimiter is None and is_json(path, head, encoding):
        return open_json(path, encoding, request)
    return open_delimited(path, encoding, request, delimiter)
