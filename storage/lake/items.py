"""Items and their features: each text is stored once, and token ids are read and written as Arrow.

Texts with the same `text_hash` are the same item: see `storage.readers.spellings.folded`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.lake.connection import bound
from storage.lake.context import among
from storage.lake.schema import UNAVAILABLE, unavailable
from storage.lake.store import Connection, Store
from storage.readers.spellings import folded, text_hash
from storage.records import Split

if TYPE_CHECKING:
    import pyarrow as pa

_STAGE = (
    """CREATE OR REPLACE TEMP TABLE staged AS SELECT row, left(sha256(folded), 32)::UUID AS text_hash,
        coalesce(item_id, left(sha256(folded), 16)) AS item_id FROM read_parquet($staged)""",
    """CREATE OR REPLACE TEMP TABLE repeated AS
        SELECT item_id, min(row) AS first FROM staged ANTI JOIN (
            SELECT text_hash::UUID AS text_hash FROM lake.erased) USING (text_hash)
        GROUP BY item_id HAVING count(*) > 1""",
    """CREATE OR REPLACE TEMP TABLE conflicts AS
        SELECT s.row, s.item_id, NULL::BIGINT AS first FROM staged s JOIN lake.items i USING (item_id)
        WHERE s.text_hash <> i.text_hash::UUID AND s.text_hash NOT IN (
            SELECT text_hash::UUID FROM lake.edits UNION SELECT text_hash::UUID FROM lake.erased)
        UNION ALL
        SELECT s.row, s.item_id, first FROM staged s JOIN repeated USING (item_id) JOIN staged o ON o.row = first
        WHERE s.text_hash <> o.text_hash AND s.item_id NOT IN (SELECT item_id FROM lake.items)
        AND s.text_hash NOT IN (SELECT text_hash::UUID FROM lake.erased)
        UNION ALL
        SELECT row, NULL, NULL FROM staged SEMI JOIN (
            SELECT text_hash::UUID AS text_hash FROM lake.erased) USING (text_hash)""",
)
"""Stage rows by hash and id, ids of several rows, and rows whose id belongs to another text, in the lake or in an
earlier row. Texts are left out, so that ten million rows fit in memory."""

_CONFLICTS = """
    SELECT c.row, c.item_id, CASE WHEN c.item_id IS NULL THEN '' ELSE s.text END AS text,
        coalesce(o.text, i.text) AS owner
    FROM conflicts c JOIN read_parquet($staged) s ON s.row = c.row LEFT JOIN read_parquet($staged) o ON o.row = c.first
    LEFT JOIN lake.items i ON i.item_id = c.item_id ORDER BY c.row"""

_KNOWN = """SELECT text_hash, item_id FROM lake.items UNION ALL
    SELECT text_hash, arg_max(item_id, edited_at) AS item_id FROM lake.edits
    WHERE text_hash NOT IN (SELECT text_hash FROM lake.items) GROUP BY text_hash"""
"""Query for the present and earlier texts of all items: (text_hash, item_id)."""

_TAKEN = f"""
    CREATE OR REPLACE TEMP TABLE taken AS
    SELECT min(row) AS row, arg_min(item_id, row) AS item_id, text_hash
    FROM staged ANTI JOIN conflicts USING (row)
    ANTI JOIN (SELECT text_hash::UUID AS text_hash FROM ({_KNOWN})) USING (text_hash) GROUP BY text_hash"""
"""The first row of each text that is not in the lake."""

_TAKE = """
    INSERT INTO lake.items (item_id, text, text_hash, published_at, source, imported_at, context)
    SELECT item_id, text, replace(text_hash::VARCHAR, '-', ''), published_at, $source, now()::TIMESTAMP, {context}
    FROM (SELECT * EXCLUDE (item_id) FROM read_parquet($staged)) JOIN taken USING (row) ORDER BY item_id"""

_FILL = """
    UPDATE lake.items SET context = n.context FROM (
        SELECT i.item_id, json_merge_patch(coalesce(i.context, '{{}}'),
            json_merge_patch(s.context, coalesce(i.context, '{{}}')))::VARCHAR AS context
        FROM (SELECT row, {context} AS context FROM read_parquet($staged) WHERE context IS NOT NULL) s JOIN (
            SELECT min(row) AS row, text_hash FROM staged ANTI JOIN conflicts USING (row)
            ANTI JOIN taken USING (text_hash) GROUP BY text_hash
        ) f USING (row) JOIN lake.items i ON i.text_hash::UUID = f.text_hash
        WHERE s.context IS NOT NULL AND i.context IS DISTINCT FROM s.context
    ) n WHERE items.item_id = n.item_id AND items.context IS DISTINCT FROM n.context"""
"""Add new columns to existing items; existing values are kept."""

_NAME = """
    INSERT INTO lake.item_ids (item_id, source_id, source, source_row) SELECT item_id, NULL, $source, row FROM taken"""
"""Record the source of the new items."""

_NAME_AGAIN = f"""
    INSERT INTO lake.item_ids (item_id, source_id, source, source_row)
    SELECT item_id, source_id, $source, row FROM (
        SELECT i.item_id, CASE WHEN s.item_id NOT IN (i.item_id, left(i.text_hash, 16)) THEN s.item_id END AS source_id,
            row FROM staged s ANTI JOIN conflicts USING (row) ANTI JOIN taken USING (row)
        JOIN ({_KNOWN}) i ON i.text_hash::UUID = s.text_hash
    ) n WHERE NOT EXISTS (
        FROM lake.item_ids k WHERE source = $source AND k.source_row = n.row AND k.item_id = n.item_id
        AND k.source_id IS NOT DISTINCT FROM n.source_id) ORDER BY row"""
"""Record the source of existing items: each row of a file once, however often it is imported."""


@dataclass(frozen=True)
class Askable:
    """The part of the pool that may be queried.

    Attributes:
        without: Items to exclude: the evaluation reserve.
        where: Condition on the columns of the others; empty for all.
    """

    without: tuple[str, ...] = ()
    where: str = ""


ALL = Askable()


@dataclass(frozen=True)
class Imported:
    """The result of an import: new items, rows that repeat a text, and rows whose id belongs to another text.

    Attributes:
        n_filled: Existing items that got new columns.
    """

    n_new: int
    n_duplicates: int
    conflicts: pa.Table
    n_filled: int = 0


def stage(chunks: Iterable[pa.Table], path: Path) -> int:
    """Write tables (row, item_id, text, published_at) with folded texts to a Parquet file; returns the number of rows.

    Columns `label` and `context` are kept if the tables have them.
    """
    import pyarrow as pa  # slow to import
    import pyarrow.parquet as pq

    columns = [("row", pa.int64()), ("item_id", pa.string()), ("text", pa.string()), ("folded", pa.string())]
    schema = pa.schema([*columns, ("published_at", pa.timestamp("us"))])
    chunks = iter(chunks)
    first = next(chunks, None)
    if first is not None:
        more = [field for field in first.schema if field.name in ("label", "context")]
        schema = pa.schema([*schema, *more])
    n = 0
    with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False, write_statistics=False) as writer:
        for chunk in itertools.chain([] if first is None else [first], chunks):
            table = chunk.combine_chunks()
            folded = [folded_texts(part) for part in table["text"].chunks]
            table = table.append_column("folded", pa.chunked_array(folded, pa.string()))
            writer.write_table(table.select(schema.names).cast(schema))
            n += table.num_rows
    return n


def add_items(store: Store, staged: Path, source: str) -> Imported:
    """Add the first staged row of each new text; repeating the call adds nothing.

    Rows whose id already stands for another text (in the lake or in an earlier row) are returned instead, and so are
    rows with an erased text, without id and text.

    Args:
        staged: A file written by `stage`.
        source: Name of the source, stored with each item.
    """

    def change(connection: Connection) -> Imported:
        file = {"staged": str(staged)}
        context = _context_in(connection, staged)
        for statement in _STAGE:
            connection.execute(bound(statement, file if "$staged" in statement else None))
        conflicts = connection.execute(bound(_CONFLICTS, file)).to_arrow_table()
        connection.execute(_TAKEN)
        n_new = _count(connection, _TAKE.format(context=context), {**file, "source": source})
        connection.execute(bound(_NAME, {"source": source}))
        n_duplicates = _count(connection, "SELECT count(*) FROM staged") - n_new - conflicts.num_rows
        if n_duplicates:
            connection.execute(bound(_NAME_AGAIN, {"source": source}))
        may_fill = n_duplicates and context != "NULL"
        n_filled = _count(connection, _FILL.format(context=context), file) if may_fill else 0
        connection.execute("DROP TABLE staged; DROP TABLE repeated; DROP TABLE conflicts; DROP TABLE taken")
        return Imported(n_new, n_duplicates, conflicts, n_filled)

    return store.write(change, f"import {source}", bulk=True)


def _context_in(connection: Connection, staged: Path) -> str:
    """SQL for the context of a staged row: a JSON text of the non-empty columns, or NULL."""
    described = connection.execute(bound("DESCRIBE FROM read_parquet(?)", [str(staged)])).fetchall()
    kind = {name: kind for name, kind, *_ in described}.get("context")
    if kind is None:
        return "NULL"
    value = "context::JSON" if kind == "VARCHAR" else "to_json(context)"
    return f"nullif(json_merge_patch('{{}}', {value})::VARCHAR, '{{}}')"


def count_items(store: Store) -> int:
    """Number of items in the lake."""
    return int(store.rows("SELECT count(*) FROM lake.items")[0][0])


def count_pool(store: Store) -> int:
    """Number of items that are neither annotated nor in an open batch."""
    return int(store.rows(f"SELECT count(*) FROM lake.items WHERE item_id NOT IN ({UNAVAILABLE})")[0][0])


def count_items_and_pool(store: Store) -> tuple[int, int]:
    """`count_items` and `count_pool` in a single query."""
    row = store.rows(f"SELECT count(*), count(*) FILTER (item_id NOT IN ({UNAVAILABLE})) FROM lake.items")[0]
    return int(row[0]), int(row[1])


def count_pending(store: Store) -> dict[Split, int]:
    """Split -> number of unanswered items in open batches."""
    rows = store.rows("""SELECT coalesce(split, purpose) AS split, count(DISTINCT item_id)
        FROM lake.batch_items JOIN lake.batches USING (batch_id)
        WHERE status = 'published' AND item_id NOT IN (SELECT item_id FROM lake.annotations) GROUP BY ALL""")
    return {Split(split): n for split, n in rows}  # items of repeated queries have answers already


def all_texts(store: Store) -> Iterator[pa.RecordBatch]:
    """All items in slices (item_id, text), by item_id."""
    return store.stream("SELECT item_id, text FROM lake.items ORDER BY item_id")


def item_ids_of(store: Store, texts: pa.ChunkedArray) -> list[str | None]:
    """The item id of each text; None for a text that is not in the lake."""
    hashes = [text_hash(text) for text in texts.to_pylist()]
    sql = "SELECT text_hash, item_id FROM lake.items SEMI JOIN (SELECT unnest($h) AS text_hash) USING (text_hash)"
    ids = dict(store.rows(sql, {"h": hashes}))
    return [ids.get(digest) for digest in hashes]


def texts_without_features(
    store: Store, encoder_id: str, bounds: tuple[str, str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Items without features of this encoder, in slices (item_id, text) by item_id.

    Args:
        bounds: First and last id of the range to read; None for all items.
    """
    within = "item_id BETWEEN $first AND $last" if bounds else "true"
    return store.stream(
        f"""SELECT item_id, text FROM lake.items ANTI JOIN (
            SELECT item_id FROM lake.features WHERE encoder_id = $encoder AND {within}
        ) USING (item_id) WHERE {within} ORDER BY item_id""",
        {"encoder": encoder_id, **(dict(zip(("first", "last"), bounds, strict=True)) if bounds else {})},
    )


def bounds_without_features(store: Store, encoder_id: str, rows: int) -> list[tuple[str, str]]:
    """First and last id of each run of at most `rows` items without features of this encoder."""
    runs = store.rows(
        """SELECT min(item_id), max(item_id) FROM (
            SELECT item_id, (row_number() OVER (ORDER BY item_id) - 1) // $rows AS run FROM lake.items
            ANTI JOIN (SELECT item_id FROM lake.features WHERE encoder_id = $encoder) USING (item_id)
        ) GROUP BY run ORDER BY run""",
        {"encoder": encoder_id, "rows": rows},
    )
    return [(first, last) for first, last in runs]


def count_without_features(store: Store, encoder_id: str) -> int:
    """Number of items without features of this encoder."""
    sql = "SELECT (SELECT count(*) FROM lake.items) - (SELECT count(*) FROM lake.features WHERE encoder_id = ?)"
    return int(store.rows(sql, [encoder_id])[0][0])


def add_features(store: Store, encoder_id: str, path: Path) -> int:
    """Add features (item_id, tokens) from a Parquet file for items without features; returns how many were added."""
    return store.write(
        lambda connection: _count(
            connection,
            """INSERT INTO lake.features SELECT $encoder, item_id, tokens FROM read_parquet($path)
            ANTI JOIN (FROM lake.features WHERE encoder_id = $encoder) USING (item_id) ORDER BY item_id""",
            {"encoder": encoder_id, "path": str(path)},
        ),
        f"features {encoder_id}",
        bulk=True,
    )


def features_of_texts(store: Store, encoder_id: str, texts: Sequence[str]) -> dict[str, bytes]:
    """Text -> features of this encoder, for texts that exactly match an item with features."""
    rows = store.rows(
        """SELECT text, tokens FROM lake.items
        SEMI JOIN (SELECT unnest($hashes) AS text_hash) USING (text_hash)
        JOIN lake.features USING (item_id) WHERE encoder_id = $encoder""",
        {"hashes": [text_hash(text) for text in texts], "encoder": encoder_id},
    )
    return dict(rows)


@dataclass(frozen=True)
class Beside:
    """Columns to read in addition to tokens.

    Attributes:
        text: Whether to read texts, as column `text`.
        sentences: The sentence encoder whose vectors to read as column `sentence`; empty for none. Items without a
            vector are left out.
    """

    text: bool = False
    sentences: str = ""

    @property
    def sentence_column(self) -> str:
        """SQL for the column of vectors."""
        return ", s.tokens AS sentence" if self.sentences else ""

    def joined(self, at_version: str) -> str:
        """SQL for the join with the vectors of a lake version."""
        if not self.sentences:
            return ""
        return f"JOIN (FROM lake.features {at_version} WHERE encoder_id = $sentences) s USING (item_id)"


TOKENS_ALONE = Beside()


def pool_features(
    store: Store,
    encoder_id: str,
    version: int | None = None,
    bounds: tuple[str, str] | None = None,
    askable: Askable = ALL,
    *,
    beside: Beside = TOKENS_ALONE,
) -> Iterator[pa.RecordBatch]:
    """The pool in slices (item_id, tokens), by item_id, the order on which seeds depend.

    Args:
        version: The lake version to read; None for the newest.
        bounds: First and last id of the range to read; None for the whole pool.
        askable: The part of the pool that may be queried.
        beside: Columns to read in addition.
    """
    columns = "item_id, f.tokens, text" if beside.text else "item_id, f.tokens"
    return store.stream(*_pool(columns, encoder_id, version, bounds, askable, beside))


def pool_item_ids(store: Store, version: int, askable: Askable = ALL) -> pa.Array:
    """The ids of the whole pool of a lake version, with or without features: (n,), ascending."""
    at_version = f"AT (VERSION => {int(version)})"
    sql = f"""SELECT item_id FROM lake.items i {at_version} WHERE item_id NOT IN ({unavailable(version)})
        AND item_id NOT IN (SELECT unnest($without)) AND {among(askable.where, version)} ORDER BY item_id"""
    return _joined(batch.column("item_id") for batch in store.stream(sql, {"without": list(askable.without)}))


def pool_ids(store: Store, encoder_id: str, version: int, askable: Askable = ALL) -> pa.Array:
    """The ids of the pool of a lake version with features of this encoder: (n,), ascending."""
    query = _pool("item_id", encoder_id, version, None, askable)
    return _joined(batch.column("item_id") for batch in store.stream(*query))


def _joined(parts: Iterable[pa.Array]) -> pa.Array:
    import pyarrow as pa

    arrays = list(parts)
    return pa.concat_arrays(arrays) if arrays else pa.array([], pa.string())


def _pool(
    columns: str,
    encoder_id: str,
    version: int | None,
    bounds: tuple[str, str] | None,
    askable: Askable,
    beside: Beside = TOKENS_ALONE,
) -> tuple[str, dict[str, Any]]:
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    within = "item_id BETWEEN $first AND $last" if bounds else "true"
    parameters: dict[str, Any] = {"encoder": encoder_id, "without": list(askable.without)}
    parameters |= dict(zip(("first", "last"), bounds, strict=True)) if bounds else {}
    parameters |= {"sentences": beside.sentences} if beside.sentences else {}
    texts = f"JOIN lake.items {at_version} USING (item_id)" if beside.text else ""
    sql = f"""SELECT {columns}{beside.sentence_column}
        FROM lake.features f {at_version} {texts} {beside.joined(at_version)}
        WHERE f.encoder_id = $encoder AND {within}
        AND item_id NOT IN (SELECT item_id FROM ({unavailable(version)}) WHERE {within})
        AND item_id NOT IN (SELECT unnest($without)) AND {among(askable.where, version)} ORDER BY item_id"""
    return sql, parameters


def newest_vocabulary(store: Store) -> tuple[int, list[str]] | None:
    """The newest vocabulary fitted to this lake, with the number of items; None if there is none."""
    rows = store.rows("SELECT n_items, words FROM lake.vocabularies ORDER BY created_at DESC, encoder_id LIMIT 1")
    return (int(rows[0][0]), json.loads(rows[0][1])) if rows else None


def add_vocabulary(store: Store, encoder_id: str, n_items: int, words: list[str]) -> None:
    """Store a fitted vocabulary; storing it again changes nothing."""
    store.write(
        lambda connection: connection.execute(
            bound(
                """INSERT INTO lake.vocabularies SELECT $encoder, $n, $words, now()::TIMESTAMP
            WHERE NOT EXISTS (FROM lake.vocabularies WHERE encoder_id = $encoder AND n_items = $n)""",
                {"encoder": encoder_id, "n": n_items, "words": json.dumps(words, ensure_ascii=False)},
            ),
        ),
        f"vocabulary {encoder_id}",
    )


def _count(connection: Connection, sql: str, parameters: Any = None) -> int:
    """The single number that a statement returns."""
    row = connection.execute(bound(sql, parameters)).fetchone()
    return int(row[0]) if row else 0


def pool_texts(store: Store, n: int, seed: int) -> pa.Table:
    """A random sample of at most n texts of the pool (item_id, text), by item_id; determined by the seed."""
    return store.read(
        f"""FROM (SELECT item_id, text FROM lake.items WHERE item_id NOT IN ({UNAVAILABLE})
            ORDER BY md5(item_id || ?), item_id LIMIT ?) ORDER BY item_id""",
        [str(seed), n],
    )


def fixed_sample(store: Store, n: int) -> list[str]:
    """The texts of n items with the lowest hashes of their ids, a fixed sample as long as no items are added."""
    return [row[0] for row in store.rows("SELECT text FROM lake.items ORDER BY md5(item_id) LIMIT ?", [n])]


def texts_of(store: Store, item_ids: Sequence[str]) -> dict[str, str]:
    """The texts of some items: item_id -> text."""
    rows = store.rows(
        "SELECT item_id, text FROM lake.items SEMI JOIN (SELECT unnest($ids) AS item_id) USING (item_id)",
        {"ids": list(item_ids)},
    )
    return dict(rows)


def spelled_ids(store: Store, item_ids: Sequence[str]) -> list[str]:
    """Ids as the lake spells them, where it has them in another Unicode form (NFC, NFD); unknown ones as they are."""
    if not (beyond_ascii := [item_id for item_id in item_ids if not item_id.isascii()]):
        return list(item_ids)
    rows = store.rows(
        """SELECT DISTINCT given.item_id, items.item_id FROM (SELECT unnest($ids) AS item_id) given
        JOIN lake.items items ON nfc_normalize(items.item_id) = nfc_normalize(given.item_id)""",
        {"ids": beyond_ascii},
    )
    spellings = dict(rows) | {stored: stored for _, stored in rows}
    return [spellings.get(item_id, item_id) for item_id in item_ids]


def folded_texts(texts: pa.Array) -> pa.Array:
    """`folded` of a string array (n,); ASCII texts are folded without Python strings."""
    import pyarrow as pa  # slow to import
    import pyarrow.compute as pc

    result = pc.ascii_lower(texts)
    # Python's ASCII white space includes four separators (0x1c to 0x1f) that RE2's \s lacks.
    odd = pc.match_substring_regex(result, r"[\t-\r\x1c-\x1f]|  |^ | $")
    if pc.any(odd).as_py():
        spaced = pc.replace_substring_regex(result.filter(odd), r"[\t-\r\x1c-\x1f ]+", " ")
        result = pc.replace_with_mask(result, odd, pc.ascii_trim(spaced, characters=" "))
    plain = pc.string_is_ascii(texts)
    if pc.all(plain).as_py() is not False:
        return result
    folded_others = pa.array([folded(text) for text in texts.filter(pc.invert(plain)).to_pylist()], result.type)
    return pc.replace_with_mask(result, pc.invert(plain), folded_others)
