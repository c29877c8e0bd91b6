"""A file of texts with their labels, whatever its columns are called: what a simulation replays the loop on."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from storage.errors import SourceError

TEXT_NAMES = ("text", "headline", "headline_text", "sentence", "title", "content", "message", "body", "review")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "y", "sentiment", "intent", "topic")
_READERS = {
    ".csv": "read_csv(?, all_varchar = true, header = true)",
    ".tsv": "read_csv(?, all_varchar = true, header = true, delim = '\t')",
    ".parquet": "read_parquet(?)",
    ".jsonl": "read_json(?, format = 'newline_delimited')",
    ".json": "read_json(?)",
}
MOST_LABELS = 50


def read_labelled(path: Path, text_column: str | None = None, label_column: str | None = None) -> pa.Table:
    """The rows (text, label) that have both, each text once with its first label, in the order of the file.

    Args:
        text_column: Its name; found out by usual names, else the column of the longest texts.
        label_column: Its name; found out by usual names, else the only other column of few different values.

    Raises:
        SourceError: The file cannot be read, or which columns are meant cannot be told; with those there are.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SourceError(f"{path.name} is none of {', '.join(_READERS)}.", hint="save it as CSV with a header line")
    try:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE rows AS FROM {reader}", [str(path)])
            names = [row[0] for row in connection.execute("DESCRIBE rows").fetchall()]
            text = _column(path, names, text_column, TEXT_NAMES) or _longest(connection, names)
            others = [name for name in names if name != text]
            label = _column(path, others, label_column, LABEL_NAMES) or _of_few_values(connection, path, others)
            return connection.execute(
                f"""SELECT text, label FROM (SELECT row_number() OVER () AS row, {_quoted(text)}::VARCHAR AS text,
                    trim({_quoted(label)}::VARCHAR) AS label FROM rows)
                WHERE trim(text) <> '' AND label <> '' QUALIFY row_number() OVER (PARTITION BY text ORDER BY row) = 1
                ORDER BY row"""
            ).to_arrow_table()
    except duckdb.Error as error:
        raise SourceError(
            f"{path} cannot be read: {str(error).splitlines()[0]}", hint="save it as CSV with a header line, in UTF-8"
        ) from error


def _column(path: Path, names: list[str], asked: str | None, usual: tuple[str, ...]) -> str | None:
    if asked is not None:
        if asked not in names:
            raise SourceError(f"{path.name} has no column {asked!r}.", hint=f"its columns: {', '.join(names)}")
        return asked
    by_name = {name.strip().casefold(): name for name in reversed(names)}
    return next((by_name[name] for name in usual if name in by_name), None)


def _longest(connection: duckdb.DuckDBPyConnection, names: list[str]) -> str:
    lengths = ", ".join(f"avg(length({_quoted(name)}::VARCHAR))" for name in names)
    found = connection.execute(f"SELECT {lengths} FROM rows").fetchone() or ()
    return max(zip(names, found, strict=True), key=lambda pair: pair[1] or 0)[0]


def _of_few_values(connection: duckdb.DuckDBPyConnection, path: Path, names: list[str]) -> str:
    few = []
    for name in names:
        row = connection.execute(f"SELECT count(DISTINCT {_quoted(name)}) FROM rows").fetchone()
        if row and 2 <= row[0] <= MOST_LABELS:
            few.append(name)
    if len(few) != 1:
        raise SourceError(
            f"{path.name}: which column has the labels cannot be told; {len(few)} have 2 to {MOST_LABELS} values.",
            hint=f"say it: pal simulate {path.name} --label-column {(few or names or ['NAME'])[0]}",
        )
    return few[0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
