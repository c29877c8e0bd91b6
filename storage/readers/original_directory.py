"""Read the directory of the original scripts: a pool, and labeled files that are named after their label."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.errors import SourceError
from storage.readers.columns import Columns
from storage.readers.delimited import chunk_of, sample_lines
from storage.readers.file_kinds import HEAD_BYTES, NAMES, find_encoding, readable_file
from storage.readers.lines import DELIMITERS, Dialect, Records, blank, parse_lines, read_records
from storage.readers.rows import Cells, checked
from storage.readers.source import Chunk, Layout, Reject, Source, shortened

POOL = "unlabeled_data/unlabeled_data.csv"
SPLITS = ("evaluation", "validation", "training")
CLASSES = {"related": "1", "not_related": "0"}
WIDEST = 5  # ID,TEXT,LABEL,SAMPLING_STRATEGY,CONFIDENCE
LABELLED = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("strategy", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class OriginalFiles:
    """The contents of a directory of the original scripts.

    Attributes:
        pool: The file of the pool; None if there is none or it is empty.
        labelled: The labeled items, with schema `LABELLED`.
        rejects: The malformed rows of the labeled files.
    """

    pool: Path | None
    labelled: pa.Table
    rejects: list[Reject]


def read_original(directory: Path | str) -> OriginalFiles:
    """Read every labeled file of the original scripts; files may be missing or empty.

    A confidence that is not a number is ignored, the label of its row is not.

    Raises:
        SourceError: The directory has neither a pool nor a labeled file.
    """
    directory = Path(directory)
    names = [(split, label, f"{split}_data/{name}.csv") for split in SPLITS for name, label in CLASSES.items()]
    labelled = [(split, label, name) for split, label, name in names if (directory / name).is_file()]
    pool = directory / POOL
    if not labelled and not pool.is_file():
        expected = f"{POOL} or {{evaluation,validation,training}}_data/{{related,not_related}}.csv"
        message = f"{directory} has no files of the original scripts; expected {expected}."
        raise SourceError(message, hint="Name the directory that contains these folders.")
    tables: list[pa.Table] = [LABELLED.empty_table()]
    rejects: list[Reject] = []
    for split, label, name in labelled:
        table, refused = _read_labelled(directory, split, label, name)
        tables.append(table)
        rejects += refused
    has_pool = pool.is_file() and pool.stat().st_size > 0
    return OriginalFiles(pool if has_pool else None, pa.concat_tables(tables), rejects)


def open_original_pool(path: Path | str) -> Source:
    """Open the pool of the original scripts: columns `ID,TEXT`, never a header.

    Raises:
        SourceError: The file does not exist or is empty.
    """
    path = Path(path)
    readable_file(path)
    dialect = original_dialect(path)

    def read(count: int, _: bool) -> Iterator[Chunk]:
        for part in read_records(path, dialect, count):
            yield chunk_of(path, Columns(text=1, item_id=0, date=None), part, dialect.delimiter)

    encoding = NAMES.get(dialect.encoding, dialect.encoding)
    form = f"pool of the original scripts, {DELIMITERS[dialect.delimiter]}, {encoding}, no header"
    layout = Layout(form, dialect.encoding, dialect.delimiter, described="id column 1, text column 2")
    return Source(path, path.stat().st_size, layout, read)


def original_dialect(path: Path) -> Dialect:
    """Detect the encoding and the delimiter of a file of the original scripts; rows have two to five values."""
    with path.open("rb") as file:
        encoding = find_encoding(path, file.read(HEAD_BYTES))
    lines = sample_lines(path, encoding)

    def fitting(delimiter: str) -> int:
        records = parse_lines(Dialect(encoding, delimiter), lines, final=True)[0]
        return sum(2 <= len(record) <= WIDEST and not re.search(r"[\s,;]", record[0].strip()) for record in records)

    delimiter = max((",", ";", "\t"), key=fitting)
    return Dialect(encoding, delimiter, narrowest=2, widest=WIDEST)


def _read_labelled(directory: Path, split: str, label: str, name: str) -> tuple[pa.Table, list[Reject]]:
    path = directory / name
    if path.stat().st_size == 0:
        return LABELLED.empty_table(), []
    dialect = original_dialect(path)
    parts = [_labelled(part, split, label, name) for part in read_records(path, dialect, 65_536)]
    rejects = [reject for _, refused in parts for reject in refused]
    return pa.concat_tables([LABELLED.empty_table(), *(table for table, _ in parts)]), rejects


def _labelled(part: Records, split: str, label: str, name: str) -> tuple[pa.Table, list[Reject]]:
    """Return the well-formed rows of a labeled file, with schema `LABELLED`, and the rejects."""
    records = {int(row): record for row, record in zip(part.rows, part.records, strict=True)}

    def shown(i: int) -> str | None:
        return None if blank(part.records[i]) else ",".join(part.records[i])

    texts = [record[1] for record in part.records]
    good, rejected = checked(name, part.rows, Cells(texts, [record[0] for record in part.records]), shown)
    rejects = [replace(reject, file=name) for reject in part.rejects] + rejected
    kept: list[dict[str, Any]] = []
    for item in good.to_pylist():
        record = records[item["row"]]
        written, strategy, confidence = (value.strip() for value in (record + [""] * WIDEST)[2:WIDEST])
        if written not in {"", label}:
            reason = f"the file name implies label {label!r}, but the third column is {shortened(written)!r}"
            rejects.append(Reject(name, item["row"], shortened(",".join(record)), reason))
            continue
        more = {"strategy": _writable(strategy), "confidence": _number(confidence), "file": name, "row": item["row"]}
        kept.append({"split": split, "item_id": item["item_id"], "text": item["text"], "label": label, **more})
    return pa.Table.from_pylist(kept, schema=LABELLED), sorted(rejects, key=lambda reject: reject.row)


def _writable(value: str) -> str | None:
    return value.encode("utf-8", "replace").decode("utf-8") or None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
