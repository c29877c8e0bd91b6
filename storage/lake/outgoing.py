"""Reads items for predictions, and the labeled data set of a lake version for `pal export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import SourceError, StoreError
from storage.files.folders import whole_file
from storage.files.spreadsheets import MOST_ROWS, neutralised, neutralised_sql, write_sheet
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
    """The format of a file by its suffix.

    Raises:
        SourceError: The suffix is unknown, or the path is a directory.
    """
    if path.is_dir():
        raise SourceError(f"{path} is a directory.", hint=f"Name a file: {path / 'predictions.parquet'}")
    suffix = path.suffix.lower().removeprefix(".")
    for name in FILE_FORMATS:
        if suffix == name:
            return name
    raise SourceError(
        f"{path.name} ends with {path.suffix or 'no suffix'}; the formats are {', '.join(FILE_FORMATS)}.",
        hint=f"Name it {path.stem or 'predictions'}.parquet, .csv or .jsonl",
    )


def features_of_all(
    store: Store,
    encoder_id: str,
    version: int,
    after: str = "",
    rows: int = SLICE_ROWS,
    beside: Beside = TOKENS_ALONE,
) -> Iterator[pa.RecordBatch]:
    """All items of a lake version that have features, in slices by item_id.

    Columns: item_id, text, tokens, further ones of `beside`, split (`pool` or `pending` for unanswered items),
    human_label (NULL without one), other_ids (further ids under which the text was imported, or NULL), and the context
    columns with the prefix `CONTEXT`.

    Args:
        after: Only items with ids above it.
    """
    names = known_columns(store, version)
    context = "".join(f", {column_sql(name)} AS {_quoted(CONTEXT + name)}" for name in names)
    at_version = f"AT (VERSION => {int(version)})"
    return store.stream(
        f"""SELECT item_id, text, f.tokens{beside.sentence_column},
            CASE WHEN split IS NOT NULL THEN split WHEN item_id IN (
            SELECT item_id FROM lake.batch_items b {at_version} JOIN lake.batches c {at_version} USING (batch_id)
            WHERE status = 'published') THEN 'pending' ELSE 'pool' END AS split, label AS human_label,
            other_ids{context}
        FROM ({items_at(at_version)}) i JOIN lake.features f {at_version} USING (item_id) {beside.joined(at_version)}
        LEFT JOIN ({current_labels(version)}) l USING (item_id)
        LEFT JOIN (SELECT item_id, list_sort(list(DISTINCT source_id)) AS other_ids
            FROM lake.item_ids {at_version} WHERE source_id IS NOT NULL GROUP BY item_id) USING (item_id)
        WHERE f.encoder_id = $encoder AND item_id > $after ORDER BY item_id""",
        {"encoder": encoder_id, "after": after, **({"sentences": beside.sentences} if beside.sentences else {})},
        rows,
    )


def count_after(store: Store, version: int, after: str = "") -> int:
    """Number of items of a lake version with ids above `after`."""
    sql = f"SELECT count(*) FROM lake.items AT (VERSION => {int(version)}) WHERE item_id > ?"
    return int(store.rows(sql, [after])[0][0])


def join_parts(parts: Sequence[Path], output: Path, form: TableFormat) -> None:
    """Concatenate Parquet files into one file, atomically.

    Raises:
        SourceError: There are more rows than a sheet of a workbook can hold.
    """
    with whole_file(output) as part:
        if form == "xlsx":
            _write_workbook(parts, part)
            return
        with duckdb.connect(config={"memory_limit": "1GB"}) as connection:
            target = str(part).replace("'", "''")
            values = {"parts": [str(path) for path in parts]}
            columns = "*"
            if form == "csv":
                described = connection.execute("DESCRIBE FROM read_parquet($parts)", values).fetchall()
                columns = ", ".join(_for_spreadsheets(k, name, kind) for k, (name, kind, *_) in enumerate(described))
            connection.execute(
                f"COPY (SELECT {columns} FROM read_parquet($parts)) TO '{target}' ({_COPY[form]})", values
            )


def _for_spreadsheets(number: int, name: str, kind: str) -> str:
    """SQL for a column of a CSV file; the first column's name begins with the byte order mark."""
    column, title = _quoted(name), _quoted(("" if number else BOM) + neutralised(name))
    return f"{neutralised_sql(column) if kind == 'VARCHAR' else column} AS {title}"


def _quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _write_workbook(parts: Sequence[Path], target: Path) -> None:
    n_rows = sum(pq.read_metadata(path).num_rows for path in parts)
    if n_rows > MOST_ROWS:
        raise SourceError(f"A sheet can hold {MOST_ROWS:,} rows, not {n_rows:,}.", hint="Name a .csv file.")

    def rows() -> Iterator[Sequence[Any]]:
        for path in parts:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(WORKBOOK_SLICE_ROWS):
                    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    write_sheet(target, pq.read_schema(parts[0]).names, rows())


def labelled_items(store: Store, version: int) -> pa.Table:
    """All labeled items except erased ones, by item_id.

    Columns: item_id, text, label, split, n_answers (answers that count), n_agree (those equal to the label), batch_id
    (the first batch), guideline (hash of the guideline that it showed), annotated_at, and the context columns.
    """
    fixed = ["item_id", "text", "label", "split", "n_answers", "n_agree", "batch_id", "guideline", "annotated_at"]
    context = selected_columns(known_columns(store, version), fixed)
    at_version = f"AT (VERSION => {int(version)})"
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
        FROM ({current_labels(version)}) JOIN ({items_at(at_version)}) i USING (item_id) JOIN answers USING (item_id)
        JOIN firsts USING (item_id)
        JOIN (SELECT batch_id, label_set AS guideline FROM lake.batches) USING (batch_id)
        WHERE label IS NOT NULL AND text <> '' ORDER BY item_id"""
    )


def count_annotators(store: Store, version: int) -> int:
    """Number of annotators up to a lake version."""
    sql = f"SELECT count(DISTINCT annotator) FROM lake.annotations AT (VERSION => {int(version)})"
    return int(store.rows(sql)[0][0])


def check_version(store: Store, version: int) -> None:
    """Check that the lake has a version.

    Raises:
        StoreError: There is no version with that number.
    """
    sql = "SELECT snapshot_id FROM ducklake_snapshots('lake') WHERE snapshot_id > 0 ORDER BY 1"  # 0 has no tables
    versions = [row[0] for row in store.rows(sql)]
    if version not in versions:
        raise StoreError(
            f"The lake has no version {version}.",
            hint=f"Use --at with a version from {versions[0]} to {versions[-1]}, or leave it out for the newest.",
        )
