"""Read Parquet in record batches, and only the columns that are used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import SourceError
from storage.readers.columns import ColumnRequest, Columns, choose_columns, layout_of, unique_names
from storage.readers.rows import Cells, checked, string_cells, with_all_rows
from storage.readers.source import Chunk, Layout, Source
from storage.readers.spellings import id_text, label_text

SAMPLE_ROWS = 2000


def open_parquet(path: Path, request: ColumnRequest) -> Source:
    """Detect the columns to read.

    Raises:
        SourceError: The file is damaged or has no rows, the choice of a column is ambiguous, or the text column does
            not contain strings.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
            batch = next(_batches(file, SAMPLE_ROWS, _simple(schema)), None) if n_rows else None
    except (pa.ArrowException, OSError) as error:
        message = f"{path} is a damaged Parquet file: {str(error).splitlines()[0]}"
        raise SourceError(message, hint="Copy or write the file again.") from error
    if batch is None:
        raise SourceError(f"{path} has no rows.", hint="A file needs at least one text.")
    names = batch.schema.names
    if all(pa.types.is_nested(field.type) for field in batch.schema):
        message = f"{path} has no column of strings, numbers or dates. Its columns: {', '.join(schema.names)}."
        raise SourceError(message, hint="Use a file with a column of strings.")
    values = [_texts(column) if _is_text(column.type) else column for column in batch.columns]
    sample = [[_shown(value) for value in row] for row in zip(*values, strict=True)]
    columns = choose_columns(path, names, sample, request)
    if not _is_text(batch.schema.field(columns.text).type):
        kind = batch.schema.field(columns.text).type
        message = f"Column {names[columns.text]!r} of {path} contains values of type {kind}, not strings."
        strings = [field.name for field in batch.schema if _is_text(field.type)]
        hint = f"Use --text-column {strings[0]}." if strings else "Use a file with a column of strings."
        raise SourceError(message, hint=hint)

    layout = layout_of(Layout(f"Parquet, {n_rows:,} rows"), columns, names, sample, path)
    if request.context is None and (nested := [name for name in schema.names if name not in names]):
        every = unique_names([*names, *nested])
        more = {every[at]: at for at in range(len(names), len(every))}
        names = [*names, *nested]
        columns = replace(columns, context={**columns.context, **more})
        layout = replace(layout, kept=[*layout.kept, *more])

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        return _chunks(path, names, columns, count, all_columns)

    return Source(path, path.stat().st_size, layout, read)


def _chunks(path: Path, names: list[str], columns: Columns, count: int, all_columns: bool) -> Iterator[Chunk]:
    used = {names[position] for position in columns.used}
    size = path.stat().st_size
    with pq.ParquetFile(path) as file:
        n_rows = file.metadata.num_rows
        done = 0
        for batch in _batches(file, count, set(file.schema_arrow.names) if all_columns else used):
            bytes_read = size * (done + len(batch)) // n_rows
            if all_columns:
                chunk = _chunk(path, batch, names, columns.text_only(), done, bytes_read)
                yield _with_all_rows(chunk, batch, names, columns, done)
            else:
                yield _chunk(path, batch, names, columns, done, bytes_read)
            done += len(batch)


def _with_all_rows(chunk: Chunk, batch: pa.RecordBatch, names: list[str], columns: Columns, done: int) -> Chunk:
    """Add every row of a batch to its chunk; columns keep their types, except that a binary text column is decoded."""
    text_position = _position(batch, names, columns.text)
    cells = [
        string_cells(_texts(column)) if i == text_position else _as_cells(column)
        for i, column in enumerate(batch.columns)
    ]
    ids = None if columns.item_id is None else _ids(batch.column(_position(batch, names, columns.item_id)))
    numbers = np.arange(done + 1, done + len(batch) + 1, dtype=np.int64)
    return with_all_rows(chunk, numbers, pa.table(cells, names=unique_names(batch.schema.names)), ids)


def _position(batch: pa.RecordBatch, names: list[str], i: int) -> int:
    """Return the position in a batch of the column `names[i]`; several columns may have the same name."""
    same = [position for position, name in enumerate(batch.schema.names) if name == names[i]]
    return same[names[:i].count(names[i])]


def _batches(file: pq.ParquetFile, count: int, used: set[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some columns in the order of the file; PyArrow puts columns of the same name side by side."""
    names = [name for name in file.schema_arrow.names if name in used]
    for batch in file.iter_batches(count, columns=list(dict.fromkeys(names))):
        if len(used) == len(names):
            yield batch
            continue
        yield batch.select([_position(batch, names, i) for i in range(len(names))])


def _chunk(path: Path, batch: pa.RecordBatch, names: list[str], columns: Columns, done: int, bytes_read: int) -> Chunk:
    def column(i: int) -> pa.Array:
        return batch.column(_position(batch, names, i))

    texts, *more = [_texts(column(at)) for at in columns.texts]
    ids = None if columns.item_id is None else _ids(column(columns.item_id))
    dates = None if columns.date is None else column(columns.date)
    labels = None if columns.label is None else _labels(column(columns.label))
    context = {name: _as_cells(column(at)) for name, at in columns.context.items()}
    table, rejects = checked(
        str(path),
        np.arange(done + 1, done + len(batch) + 1, dtype=np.int64),
        Cells(texts, ids, dates, labels, more, context),
        lambda i: ", ".join(_shown(values[i]) for values in (ids, texts) if values is not None),
    )
    return Chunk(table, rejects, bytes_read)


def _texts(column: pa.Array) -> pa.Array | list[str | None]:
    """Return a column as strings; bytes that are not UTF-8 (Parquet may contain them) become lone surrogates."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        column.validate(full=True)
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


def _as_cells(column: pa.Array) -> pa.Array:
    """A column of any type; strings such that they are UTF-8."""
    return string_cells(_texts(column)) if pa.types.is_string(column.type) else column


def _ids(column: pa.Array) -> pa.Array | list[str | None]:
    if _is_text(column.type):
        return _texts(column)
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    return [id_text(value) for value in column.to_pylist()]


def _labels(column: pa.Array) -> pa.Array | list[str | None]:
    return _texts(column) if _is_text(column.type) else [label_text(value) for value in column.to_pylist()]


def _is_text(kind: pa.DataType) -> bool:
    """Whether a type holds strings; so does a binary type, whose writer did not mark the bytes as strings."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(inner) for test in (*tests, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _simple(schema: pa.Schema) -> set[str]:
    """Return the names of the columns that may be text, id, date or label."""
    return {
        field.name
        for field in schema
        if _is_text(field.type) or pa.types.is_primitive(field.type) or _is_list(field.type)
    }


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and (_is_text(kind.value_type) or pa.types.is_primitive(kind.value_type)))


def _shown(value: object) -> str:
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    return (label_text(value) or "") if isinstance(value, list) else "" if value is None else str(value)
