"""Parquet: record batches, of which only the columns that matter are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import SourceError
from storage.readers.columns import Columns, choose_columns, described
from storage.readers.rows import checked, id_text
from storage.readers.source import Chunk, Source

SAMPLE_ROWS = 2000


def open_parquet(path: Path, *, text_column: str | None, id_column: str | None) -> Source:
    """Find out which columns matter.

    Raises:
        SourceError: damaged, without rows, or the column of texts cannot be told or holds no strings.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, number = file.schema_arrow, file.metadata.num_rows
            batch = next(file.iter_batches(SAMPLE_ROWS, columns=_simple(schema)), None) if number else None
    except (pa.ArrowException, OSError) as error:
        what = f"{path} is a damaged Parquet file: {str(error).splitlines()[0]}"
        raise SourceError(what, hint="copy or write it again.") from error
    if batch is None:
        raise SourceError(f"{path} holds no rows.", hint="a file needs at least one text.")
    names = batch.schema.names
    if not names:
        what = f"{path} has no column of strings, numbers or dates; its columns: {', '.join(schema.names)}."
        raise SourceError(what, hint="a column of strings is needed.")
    values = [_texts(column) if _is_text(column.type) else column for column in batch.columns]
    sample = [[_shown(value) for value in row] for row in zip(*values, strict=True)]
    columns = choose_columns(path, names, sample, text_column, id_column)
    if not _is_text(batch.schema.field(columns.text).type):
        what = f"Column {names[columns.text]!r} of {path} holds {batch.schema.field(columns.text).type}, not strings."
        strings = [field.name for field in batch.schema if _is_text(field.type)]
        hint = f"--text-column {strings[0]}" if strings else "a column of strings is needed."
        raise SourceError(what, hint=hint)

    def read(count: int) -> Iterator[Chunk]:
        return _chunks(path, names, columns, count)

    return Source(path, path.stat().st_size, f"Parquet, {number:,} rows; {described(columns, names, sample)}", read)


def _chunks(path: Path, names: list[str], columns: Columns, count: int) -> Iterator[Chunk]:
    wanted = [names[at] for at in (columns.text, columns.item_id, columns.date) if at is not None]
    size = path.stat().st_size
    with pq.ParquetFile(path) as file:
        number = file.metadata.num_rows
        done = 0
        for batch in file.iter_batches(count, columns=wanted):
            yield _chunk(path, batch, names, columns, done, size * (done + len(batch)) // number)
            done += len(batch)


def _chunk(path: Path, batch: pa.RecordBatch, names: list[str], columns: Columns, done: int, bytes_read: int) -> Chunk:
    texts = _texts(batch.column(names[columns.text]))
    ids = None if columns.item_id is None else _ids(batch.column(names[columns.item_id]))
    dates = None if columns.date is None else batch.column(names[columns.date])
    table, rejects = checked(
        str(path),
        np.arange(done + 1, done + len(batch) + 1, dtype=np.int64),
        texts,
        ids,
        dates,
        lambda i: ", ".join(_shown(column[i]) for column in (ids, texts) if column is not None),
    )
    return Chunk(table, rejects, bytes_read)


def _texts(column: pa.Array) -> pa.Array | list[str | None]:
    """A column as strings; bytes that are not UTF-8, which Parquet does not prevent, become lone surrogates."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        column.validate(full=True)
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


def _ids(column: pa.Array) -> pa.Array | list[str | None]:
    if _is_text(column.type):
        return _texts(column)
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    return [id_text(value) for value in column.to_pylist()]


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner))


def _simple(schema: pa.Schema) -> list[str]:
    """The columns that could be text, id or date, in their order."""
    return [
        field.name
        for field in schema
        if _is_text(field.type) or pa.types.is_primitive(field.type) or pa.types.is_temporal(field.type)
    ]


def _shown(value: object) -> str:
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    return "" if value is None else str(value)
