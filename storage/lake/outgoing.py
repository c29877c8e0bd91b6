"""Rows that leave the lake: items for predictions, and the labelled data set of a lake version for `pal export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import SourceError, StoreError
from storage.files.folders import whole_file
from storage.files.formulas import neutralised, neutralised_sql
from storage.files.workbook_file import MOST_ROWS, write_sheet
from storage.lake.context import column_sql, items_at, known_columns, selected_columns
from storage.lake.items import TOKENS_ALONE, Beside
from storage.lake.schema import annotations_at, current_labels, standing_answers
from storage.lake.store import SLICE_ROWS, Store

FileFormat = Literal["parquet", "csv", "jsonl"]
FILE_FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
TableFormat = FileFormat | Literal["xlsx"]

BOM = "\ufeff"
CONTEXT = "context "
WORKBOOK_SLICE_ROWS = 4096

_COPY = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": "FORMAT csv, HEADER",
    "jsonl": "FORMAT json",
}


def format_of_file(path: Path) -> FileFormat:
    """The format that a file's suffix stands for.

    Raises:
        SourceError: It stands for none, or the path is a directory.
    """
    if path.is_dir():
        raise SourceError(f"{path} is a directory.", hint=f"Name a file: {path / 'predictions.parquet'}")
    suffix = path.suffix.lower().removeprefix(".")
    for name in FILE_FORMATS:
        if suffix == name:
            return name
    raise SourceError(
        f"{path.name} ends with {path.suffix or 'no suffix'}; the formats are {', '.join(FILE_FORMATS)}.",
        hint=f"name it {path.stem or 'predictions'}.parquet, .csv or .jsonl",
    )


def features_of_all(
    store: Store,
    encoder_id: str,
    version: int,
    after: str = "",
    rows: int = SLICE_ROWS,
    beside: Beside = TOKENS_ALONE,
) -> Iterator[pa.RecordBatch]:
    """Every item of a lake version that has features, in slices by item_id.

    Columns: item_id, text, tokens, further ones as `beside` says, split (`pool` or `pending` of an item that nobody
    answered yet), human_label (NULL where it has none), other_ids (under which its text was imported, too; NULL for
    none), and those of the context, with `CONTEXT` before their names.

    Args:
        after: Only items whose id is above it.
    """
    names = known_columns(store, version)
    context = "".join(f", {column_sql(name)} AS {_quoted(CONTEXT + name)}" for name in names)
    at = f"AT (VERSION => {int(version)})"
    return store.stream(
        f"""SELECT item_id, text, f.tokens{beside.sentence_column},
            CASE WHEN split IS NOT NULL THEN split WHEN item_id IN (
            SELECT item_id FROM lake.batch_items b {at} JOIN lake.batches c {at} USING (batch_id)
            WHERE status = 'published') THEN 'pending' ELSE 'pool' END AS split, label AS human_label,
            other_ids{context}
        FROM ({items_at(at)}) i JOIN lake.features f {at} USING (item_id) {beside.joined(at)}
        LEFT JOIN ({current_labels(version)}) l USING (item_id)
        LEFT JOIN (SELECT item_id, list_sort(list(DISTINCT source_id)) AS other_ids
            FROM lake.item_ids {at} WHERE source_id IS NOT NULL GROUP BY item_id) USING (item_id)
        WHERE f.encoder_id = $encoder AND item_id > $after ORDER BY item_id""",
        {"encoder": encoder_id, "after": after, **({"sentences": beside.sentences} if beside.sentences else {})},
        rows,
    )


def count_after(store: Store, version: int, after: str = "") -> int:
    """Number of items of a lake version whose id is above `after`."""
    sql = f"SELECT count(*) FROM lake.items AT (VERSION => {int(version)}) WHERE item_id > ?"
    return int(store.rows(sql, [after])[0][0])


def join_parts(parts: Sequence[Path], output: Path, form: TableFormat) -> None:
    """Write Parquet files, one after the other, as one file; it is there whole or not at all.

    Raises:
        SourceError: They have more rows than a sheet of a workbook.
    """
    with whole_file(output) as part:
        if form == "xlsx":
            _write_workbook(parts, part)
            return
        with duckdb.connect(config={"memory_limit": "1GB"}) as connection:
            place = str(part).replace("'", "''")
            values = {"parts": [str(path) for path in parts]}
            columns = "*"
            if form == "csv":
                described = connection.execute("DESCRIBE FROM read_parquet($parts)", values).fetchall()
                columns = ", ".join(_for_spreadsheets(k, name, kind) for k, (name, kind, *_) in enumerate(described))
            connection.execute(
                f"COPY (SELECT {columns} FROM read_parquet($parts)) TO '{place}' ({_COPY[form]})", values
            )


def _for_spreadsheets(at: int, name: str, kind: str) -> str:
    """A column as it stands in a CSV file; the first one's name begins with the file's byte order mark."""
    column, title = _quoted(name), _quoted(("" if at else BOM) + neutralised(name))
    return f"{neutralised_sql(column) if kind == 'VARCHAR' else column} AS {title}"


def _quoted(name: str) -> str:
    """The name of a column in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _write_workbook(parts: Sequence[Path], place: Path) -> None:
    n_rows = sum(pq.read_metadata(path).num_rows for path in parts)
    if n_rows > MOST_ROWS:
        raise SourceError(f"A sheet has room for {MOST_ROWS:,} rows, not for {n_rows:,}.", hint="Name a .csv file.")

    def rows() -> Iterator[Sequence[Any]]:
        for path in parts:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(WORKBOOK_SLICE_ROWS):
                    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    write_sheet(place, pq.read_schema(parts[0]).names, rows())


def labelled_items(store: Store, version: int) -> pa.Table:
    """Every item that has a label, but for erased ones, by item_id.

    Columns: item_id, text, label, split, n_answers (that count), n_agree (of them those that equal the label), batch_id
    (the first that asked), guideline (hash of what that showed), annotated_at, and those of the context.
    """
    fixed = ["item_id", "text", "label", "split", "n_answers", "n_agree", "batch_id", "guideline", "annotated_at"]
    context = selected_columns(known_columns(store, version), fixed)
    at = f"AT (VERSION => {int(version)})"
    return store.read(
        f"""WITH answers AS (
            SELECT item_id, count(*) AS n_answers, list(answer) AS given FROM ({standing_answers(version)})
            WHERE answer <> 'skip' GROUP BY item_id
        ), firsts AS (
            SELECT item_id, arg_min(batch_id, (coalesce(ingestion, 0), ingested_at, batch_id)) AS batch_id
            FROM ({annotations_at(version)}) GROUP BY item_id
        )
        SELECT item_id, text, label, split, n_answers, len(list_filter(given, lambda a: a = label)) AS n_agree,
            batch_id, guideline, annotated_at{context}
        FROM ({current_labels(version)}) JOIN ({items_at(at)}) i USING (item_id) JOIN answers USING (item_id)
        JOIN firsts USING (item_id)
        JOIN (SELECT batch_id, label_set AS guideline FROM lake.batches) USING (batch_id)
        WHERE label IS NOT NULL AND text <> '' ORDER BY item_id"""
    )


def count_annotators(store: Store, version: int) -> int:
    """How many people answered, up to a lake version."""
    sql = f"SELECT count(DISTINCT annotator) FROM lake.annotations AT (VERSION => {int(version)})"
    return int(store.rows(sql)[0][0])


def check_version(store: Store, version: int) -> None:
    """Make sure that the lake has a version that can be read.

    Raises:
        StoreError: It has none of that number.
    """
    known = [row[0] for row in store.rows("SELECT snapshot_id FROM ducklake_snapshots('lake') ORDER BY 1")]
    if version not in known:
        raise StoreError(
            f"the lake has no version {version}.",
            hint=f"its versions go from {known[0]} to {known[-1]}; the newest: leave --at out",
        )
