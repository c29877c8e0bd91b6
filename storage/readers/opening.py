"""The one door for a file of texts to import: what it is decides which reader opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storage.readers.columns import Asked
from storage.readers.delimited import open_delimited
from storage.readers.file_kinds import find_encoding, is_json, is_parquet, is_zip, known_encoding, readable_file
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
    """Find out what a file of texts is.

    Args:
        path: CSV, TSV, plain text (one text a line), an Excel workbook, JSON, RIS or Parquet, told by content.
        text_column: name of the column of texts, or its number from 1; several are joined; found out when left out.
        id_column: the same for the ids; a file may have none.
        label_column: the same for the labels, which are read with it: found out when empty, not read when left out.
        encoding: as Python names it; found out when left out.
        delimiter: one character, or `tab`; found out when left out.

    Raises:
        SourceError: no such file, not a file of texts, or columns that cannot be told.
    """
    texts = [str(text_column)] if isinstance(text_column, str | int) else text_column or ()
    item_id, label = (None if name is None else str(name) for name in (id_column, label_column))
    return open_columns(Path(path), Asked(tuple(texts), item_id, label), encoding, delimiter)


def open_columns(path: Path, asked: Asked, encoding: str | None = None, delimiter: str | None = None) -> Source:
    """Find out what a file of texts is, with columns to keep beside the texts, too.

    Raises:
        SourceError: As `open_source`.
    """
    head = readable_file(path, or_workbook=True)
    if is_parquet(head):
        return open_parquet(path, asked)
    if is_zip(head):
        return open_workbook(path, asked)
    spelled = known_encoding(encoding) if encoding else find_encoding(path, head)
    if is_ris(head.decode(spelled, "replace").lstrip("\ufeff")):
        return open_ris(path, spelled, asked)
    if delimiter is None and is_json(path, head, spelled):
        return open_json(path, spelled, asked)
    return open_delimited(path, spelled, asked, delimiter)
