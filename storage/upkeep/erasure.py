"""Erases texts from every version of a lake; their hashes are kept, so that they are not imported again.

The newest version loses all rows of the items. Older versions keep the rows without the texts, data derived from them
and annotators' notes: their Parquet files are rewritten with the same rows in the same order.

`Mentions` tells whether a file of any format holds a text. A text is looked for by its beginning, since lists of errors
cut texts off; case, white space and ASCII punctuation do not count, so that quoting and escaping do not hide it. A
short text is therefore also seen within longer ones.
"""

from __future__ import annotations

import gzip
import html
import io
import re
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import BatchError
from storage.lake.connection import bound, quoted
from storage.lake.schema import ASKED, answers_to_batches, current_labels
from storage.lake.store import Connection, Store
from storage.readers.spellings import folded
from storage.upkeep.maintenance import CATALOG, DataFolder

INTENT = "erasing.json"
"""File in `lake` during an erasure; it contains the texts."""

_FREE = ("text", "note", "context")
"""Columns with texts or notes; all BLOBs are derived from texts, too."""


@dataclass(frozen=True)
class Erasure:
    """Items to erase, with what depends on them.

    Attributes:
        texts: Their present and earlier texts.
        batches: Batches that contain them.
        models: Models trained, validated or evaluated on them, which will no longer be reproducible.
    """

    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    n_answers: int
    batches: tuple[str, ...]
    models: tuple[str, ...]


def unreproducible_models(store: Store) -> set[str]:
    """Models that used a text that was erased later."""
    return {row[0] for row in store.rows("SELECT model_id FROM lake.unreproducible")}


def plan_erasure(store: Store, item_ids: Sequence[str]) -> Erasure:
    """Collect what an erasure of items affects; changes nothing.

    Raises:
        BatchError: One of the ids is unknown.
    """
    ids = {"ids": sorted(set(item_ids))}
    is_listed = "item_id IN (SELECT unnest($ids))"
    existing = {row[0] for row in store.rows(f"SELECT item_id FROM lake.items WHERE {is_listed}", ids)}
    if unknown := [item_id for item_id in ids["ids"] if item_id not in existing]:
        raise BatchError(
            f"There is no item {unknown[0]!r} ({len(unknown):,} of these ids are unknown); nothing was erased.",
            hint="Item ids are in the batch files and exports. An erased item no longer has an id.",
        )
    texts = store.rows(
        f"SELECT DISTINCT text FROM (SELECT item_id, text FROM lake.items UNION ALL "
        f"SELECT item_id, text FROM lake.edits) WHERE {is_listed} ORDER BY text",
        ids,
    )
    n_answers = store.rows(f"SELECT count(*) FROM lake.annotations WHERE {is_listed}", ids)[0][0]
    batches = store.rows(f"SELECT DISTINCT batch_id FROM ({ASKED}) WHERE {is_listed} ORDER BY 1", ids)
    models = [
        model_id
        for model_id, version in store.rows("SELECT model_id, lake_version FROM lake.models ORDER BY model_id")
        if store.rows(f"SELECT 1 FROM ({current_labels(version)}) WHERE label IS NOT NULL AND {is_listed} LIMIT 1", ids)
    ]
    return Erasure(tuple(ids["ids"]), _first(texts), n_answers, _first(batches), tuple(models))


def items_containing(store: Store, item_ids: Sequence[str], beginnings: Sequence[str]) -> list[str]:
    """Ids of other items whose text, context or notes contain the beginning of one of the texts.

    Args:
        beginnings: In lower case, without white space and punctuation.
    """
    sql = r"""SELECT DISTINCT item_id FROM (
            SELECT item_id, concat_ws(' ', text, regexp_replace(context, '\\[nrt]', ' ', 'g')) AS said FROM lake.items
            UNION ALL SELECT item_id, note FROM lake.annotations WHERE note <> ''
        ), (SELECT unnest($beginnings) AS beginning)
        WHERE item_id NOT IN (SELECT unnest($ids))
        AND contains(regexp_replace(lower(said), '[\s[:punct:]]+', '', 'g'), beginning) ORDER BY item_id"""
    return list(_first(store.rows(sql, {"ids": list(item_ids), "beginnings": list(beginnings)})))


def _first(rows: list[tuple[Any, ...]]) -> tuple[str, ...]:
    return tuple(row[0] for row in rows)


def erase_from_lake(store: Store, erasure: Erasure) -> None:
    """Erase items from every version, and from all files of the lake. After a kill, repeat the call.

    Raises:
        StoreError: Another maintenance command is running, or a server fails.
    """
    with store.housekeeping("pal items erase"), store.alone():
        store.write(lambda connection: _leave_newest_version(connection, erasure), "erase items")
        store.flush_inlined_rows()
        _blank_files(store, erasure.item_ids)
        for function in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
            store.write(
                lambda c, name=function: c.execute(f"CALL {name}('lake', cleanup_all => true)").fetchall(),  # type: ignore[misc]
                function,
            )
    store.compact_catalog()  # PostgreSQL keeps deleted rows while a transaction is open, as that of a lock


_COLUMNS = """SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'lake'
    AND table_name IN (SELECT table_name FROM duckdb_columns() WHERE database_name = 'lake'
        AND column_name = 'item_id') ORDER BY ALL"""


def _tables(rows: Sequence[tuple[Any, ...]]) -> dict[str, list[str]]:
    """Map each table with rows of items to its columns to blank, from the rows of `_COLUMNS`."""
    tables: dict[str, list[str]] = {}
    for table, column, kind in rows:
        tables.setdefault(table, []).extend([column] if column in _FREE or kind == "BLOB" else [])
    return tables


def _leave_newest_version(connection: Connection, erasure: Erasure) -> None:
    """Delete the items from the newest version; their batches shrink accordingly."""
    ids, is_listed = {"ids": list(erasure.item_ids)}, "item_id IN (SELECT unnest($ids))"
    connection.execute(
        bound(
            f"""INSERT INTO lake.erased SELECT DISTINCT text_hash, now()::TIMESTAMP FROM (
                SELECT item_id, text_hash FROM lake.items UNION ALL SELECT item_id, text_hash FROM lake.edits
            ) WHERE {is_listed} AND text_hash NOT IN (SELECT text_hash FROM lake.erased)""",
            ids,
        )
    )
    if erasure.models:
        connection.execute(
            bound(
                """INSERT INTO lake.unreproducible SELECT unnest($models), now()::TIMESTAMP
                EXCEPT SELECT model_id, now()::TIMESTAMP FROM lake.unreproducible""",
                {"models": list(erasure.models)},
            )
        )
    for table in _tables(connection.execute(_COLUMNS).fetchall()):
        connection.execute(bound(f"DELETE FROM lake.{table} WHERE {is_listed}", ids))
    if erasure.batches:
        connection.execute(
            bound(
                f"""UPDATE lake.batches SET n = left_over,
                    status = CASE WHEN status = 'published' AND left_over <= n_done THEN 'ingested' ELSE status END
                FROM (SELECT b.batch_id AS of_batch, count(DISTINCT i.item_id) AS left_over,
                        count(DISTINCT i.item_id) FILTER (a.n >= coalesce(b.overlap, 1)) AS n_done
                    FROM lake.batches b LEFT JOIN lake.batch_items i USING (batch_id)
                    LEFT JOIN ({answers_to_batches("lake.batches")}) a
                    ON a.batch_id = i.batch_id AND a.item_id = i.item_id
                    GROUP BY b.batch_id) WHERE of_batch = batch_id AND batch_id IN (SELECT unnest($batches))""",
                {"batches": list(erasure.batches)},
            )
        )


def _blank_files(store: Store, item_ids: Sequence[str]) -> None:
    """Rewrite the Parquet files with rows of the items without their texts; older versions then read the new files."""
    folder = DataFolder(store.data)
    statements = []
    for table, columns in _tables(store.rows(_COLUMNS)).items():
        files = store.rows(
            f"""SELECT s.path || t.path, f.path, f.data_file_id, t.table_id FROM {CATALOG}.ducklake_data_file f
            JOIN {CATALOG}.ducklake_table t USING (table_id) JOIN {CATALOG}.ducklake_schema s USING (schema_id)
            WHERE t.table_name = ? AND t.end_snapshot IS NULL""",
            [table],
        )
        if not files or not columns:
            continue
        parameters = {"files": [f"{store.data}{prefix}{name}" for prefix, name, *_ in files], "ids": list(item_ids)}
        sql = """SELECT DISTINCT filename FROM read_parquet($files, filename => true, union_by_name => true)
            WHERE item_id IN (SELECT unnest($ids))"""
        holding = {PurePosixPath(name).name for (name,) in store.rows(sql, parameters)}
        for prefix, name, file_id, table_id in files:
            if PurePosixPath(name).name not in holding:
                continue
            new = f"ducklake-{uuid.uuid4()}.parquet"
            content = _blanked(b"".join(folder.read(f"{prefix}{name}")), columns, item_ids)
            folder.write(f"{prefix}{new}", iter([content]))
            footer = int.from_bytes(content[-8:-4], "little")
            of_columns = f"""column_id IN (SELECT column_id FROM ducklake_column WHERE table_id = {table_id}
                AND column_name IN ({", ".join(map(quoted, columns))}))"""
            statements += [
                f"""UPDATE ducklake_data_file SET path = {quoted(new)}, file_size_bytes = {len(content)},
                    footer_size = {footer} WHERE data_file_id = {file_id}""",
                f"""UPDATE ducklake_file_column_stats SET min_value = NULL, max_value = NULL
                    WHERE data_file_id = {file_id} AND {of_columns}""",
                f"""UPDATE ducklake_table_column_stats SET min_value = NULL, max_value = NULL
                    WHERE table_id = {table_id} AND {of_columns}""",
            ]
    if statements:
        store.edit_catalog(*statements)


def _blanked(content: bytes, columns: Sequence[str], item_ids: Sequence[str]) -> bytes:
    """The Parquet file with these columns blanked in the rows of the items."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    target = pa.BufferOutputStream()
    with pq.ParquetFile(pa.BufferReader(content)) as source:
        schema = source.schema_arrow
        with pq.ParquetWriter(target, schema, compression="zstd", store_schema=False) as writer:
            for k in range(source.num_row_groups):
                table = source.read_row_group(k)
                is_erased = pc.is_in(table["item_id"], pa.array(item_ids, table["item_id"].type))
                for name in (name for name in columns if name in schema.names):
                    number = schema.get_field_index(name)
                    empty = pa.scalar(b"" if pa.types.is_binary(table[name].type) else "", table[name].type)
                    table = table.set_column(number, schema.field(number), pc.if_else(is_erased, empty, table[name]))
                writer.write_table(table)
    return bytes(target.getvalue())


def catalog_copies(store: Store) -> list[Path]:
    """Copies of a SQLite catalog from before migrations; they name files that an erasure deletes."""
    if store.kind != "sqlite":
        return []
    catalog = Path(store.catalog.partition(":")[2])
    return sorted(catalog.parent.glob(f"{catalog.stem}.before-schema-*"))


_BEGINNING = 24
"""Characters by which a text is looked for."""
_LEAST_OF_A_PIECE = 12
"""Shorter pieces of a text are not looked for by themselves."""
_CELLS = re.compile(r"[\r\n\t,;]+")
_PIECE_BYTES, _OVERLAP_BYTES = 16 << 20, 4096
_IGNORED = re.compile(r"[\s!-/:-@\[-`{-~]+")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_LINE_BREAKS = re.compile(r"\\[nrt]|_x[0-9A-Fa-f]{4}_")
_TAGS = re.compile(r"<[^>]*>")


class Mentions:
    """Some texts, looked for in files.

    Args:
        texts: Those without a letter, a digit or a symbol beyond ASCII cannot be looked for.
        in_pieces: Also look for what broken rows make of them: what is between line breaks, tabs, commas, semicolons.
    """

    def __init__(self, texts: Iterable[str], *, in_pieces: bool = False) -> None:
        texts = list(texts)
        pieces = (_bare(piece) for text in texts for piece in (_CELLS.split(text) if in_pieces else ()))
        searched = (*map(_bare, texts), *(piece for piece in pieces if len(piece) >= _LEAST_OF_A_PIECE))
        self._beginnings = {bare[:_BEGINNING] for bare in searched} - {""}

    @property
    def long_beginnings(self) -> list[str]:
        """What is looked for, but for what is so short that it stands in other texts by chance."""
        return sorted(beginning for beginning in self._beginnings if len(beginning) >= _LEAST_OF_A_PIECE)

    def in_text(self, text: str) -> bool:
        """Whether a string holds one of the texts, as it is or as JSON, HTML or XML writes it."""
        json_text = _LINE_BREAKS.sub(" ", _ESCAPES.sub(_unescaped, text))
        readings = {text, json_text, html.unescape(json_text), html.unescape(_TAGS.sub("", json_text))}
        return any(beginning in bare for bare in map(_bare, readings) for beginning in self._beginnings)

    def in_file(self, path: Path) -> bool:
        """Whether a file holds one of the texts; archives, workbooks and Parquet files are unpacked."""
        with path.open("rb") as file:
            return self.in_stream(file)

    def in_stream(self, file: io.BytesIO | io.BufferedReader) -> bool:
        """Whether a file's content holds one of the texts, as `in_file`."""
        start = file.read(4)
        file.seek(0)
        if start == b"PAR1":
            return any(self.in_text(text) for text in _strings_of(file))
        if start.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
                return any(self.in_stream(io.BytesIO(archive.read(name))) for name in archive.namelist())
        if start.startswith(b"\x1f\x8b"):
            return self.in_stream(io.BytesIO(gzip.decompress(file.read())))
        before = b""
        while piece := file.read(_PIECE_BYTES):
            if any(self.in_text(text) for text in _decoded(before + piece, start)):
                return True
            before = piece[-_OVERLAP_BYTES:]
        return False


def _bare(text: str) -> str:
    return _IGNORED.sub("", folded(text))


def _unescaped(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("\\u", "")).decode("utf-16-be", "replace")


def _decoded(data: bytes, start: bytes) -> Iterator[str]:
    """The strings that bytes may be."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield data.decode("utf-16-le" if start.startswith(b"\xff\xfe") else "utf-16-be", "replace")
        return
    yield data.decode("utf-8", "ignore")
    if not data.isascii():
        yield data.decode("cp1252", "ignore")


def _strings_of(content: io.BytesIO | io.BufferedReader) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(content) as file:
        yield "\n".join(file.schema_arrow.names)
        names = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        for batch in file.iter_batches(8192, columns=names):
            for column in batch.columns:
                yield "\n".join(text for text in column.to_pylist() if text)
