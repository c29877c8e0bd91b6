"""Whatever bytes a file has, its reader gives an answer or a refusal in words, within bounds; `make fuzz` for long."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import pal_toml

from annotation.batch import Contents, batch_files, read_manifest, write_batch
from annotation.checks import FilledFile
from annotation.formats.detection import read_filled
from annotation.formats.journal import read_journal
from annotation.formats.registry import FORMATS
from annotation.formats.zip_archive import opened_archive
from storage.errors import PalError
from storage.files.folders import MANIFEST
from storage.readers.opening import open_source, read_labelled
from storage.readers.sheets import WorkbookReader
from storage.records import Batch, BatchItem, BatchStatus, Purpose
from storage.upkeep.backup import read_backup
from tasks.config.load import read_config
from tasks.config.template import DISASTER
from tasks.learning.encoders import ARTEFACT
from tasks.learning.encoders import read_manifest as read_encoder_manifest
from tasks.learning.stored_model import model_manifest

MOST_BYTES = 200_000_000
WORKBOOKS = WorkbookReader()


class Seeds(dict[str, bytes]):
    def __repr__(self) -> str:
        return "seeds"


def texts(path: Path) -> None:
    for chunk in open_source(path).chunks():
        assert chunk.table.num_rows >= 0


def filled(path: Path) -> None:
    read_filled(FilledFile(path, "b1", ""), workbooks=WORKBOOKS)


def archive(path: Path) -> None:
    with opened_archive(path) as parts:
        assert parts


def manifest_with(read: Callable[[Path], object]) -> Callable[[Path], None]:
    def reader(path: Path) -> None:
        path.replace(path.parent / MANIFEST)
        read(path.parent)

    return reader


def batch_manifest(folder: Path) -> None:
    read_manifest(folder)
    batch_files(folder)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "csv": ("a.csv", texts),
    "txt": ("a.txt", texts),
    "json": ("a.json", texts),
    "labelled": ("l.csv", read_labelled),
    "parquet": ("a.parquet", texts),
    "xlsx": ("a.xlsx", texts),
    **{f"filled {name}": (f"b.{name}", filled) for name in FORMATS},
    "filled zip": ("b.zip", filled),
    "zip": ("b.zip", archive),
    "journal": ("answers.jsonl", read_journal),
    "batch manifest": ("manifest", manifest_with(batch_manifest)),
    "model manifest": ("model", manifest_with(model_manifest)),
    "encoder manifest": ("encoder", manifest_with(read_encoder_manifest)),
    "backup manifest": ("backup", manifest_with(read_backup)),
    "pal.toml": ("pal.toml", read_config),
}
"""Format -> the file that it is tried on, and what reads it."""

WORDS = [
    *(
        "text",
        "label",
        "id",
        "item_id",
        "batch_id",
        "text_hash",
        "annotator",
        "sep=;",
        "\ufeff",
        "\0",
        "\ud800",
        "\x1f",
    ),
    *(",", ";", "\t", "|", '"', '""', "\\", "\n", "\r", "\r\n", " ", "'", "=1+1", "a text", "yes", "é", "1e999", "-0"),
    *("[", "]", "{", "}", ":", "null", "true", "NaN", "[" * 2000, '{"a":' * 2000, "9" * 5000, "x" * 3000),
    *('"text":', '"data":', '"annotations":', '"result":', '"labels":', '{"text": "a b"}', "[[labels]]\n", "name = "),
]


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    """A whole file of every kind, by name."""
    folder = tmp_path_factory.mktemp("seeds")
    rows = [(k, f"flood in town {k}", ("yes", "no")[k % 2]) for k in range(12)]
    table = "id,text,label\n" + "".join(f"{k},{text},{label}\n" for k, text, label in rows)
    objects = [{"id": k, "text": text, "label": label} for k, text, label in rows]
    made = {
        "a.csv": table.encode(),
        "l.csv": table.encode(),
        "a.txt": "\n".join(text for _, text, _ in rows).encode(),
        "a.json": json.dumps(objects).encode(),
        "pal.toml": pal_toml().encode(),
        "encoder": (ARTEFACT / MANIFEST).read_bytes(),
        "model": json.dumps(
            {
                **{"manifest_version": 1, "encoder_id": "e", "vocabulary": None, "labels": ["a", "b"]},
                **{"weights_sha256": "0" * 64, "config": {"hidden": 0}},
                "calibration": {"temperature": 1.0, "threshold": 0.5, "positive": 0},
            }
        ).encode(),
    }
    kept = {"sha256": "0" * 64, "bytes": 1}
    values = {"kind": "pal backup", "at": "", "lake": ["sqlite:a", "b"], "lake_version": 1, "catalog": kept}
    made["backup"] = json.dumps({**values, "data": {"a": kept}, "files": {"b": kept}}).encode()
    pq.write_table(pa.table({"id": [0, 1], "text": ["a b", "c d"]}), folder / "a.parquet")
    made["a.parquet"] = (folder / "a.parquet").read_bytes()
    book = openpyxl.Workbook()
    for row in (("id", "text"), (1, "a flood"), (2, "=1+1")):
        book.active.append(row)
    book.save(folder / "a.xlsx")
    made["a.xlsx"] = (folder / "a.xlsx").read_bytes()
    return Seeds(made | batch_seeds(folder / "batch"))


def batch_seeds(folder: Path) -> dict[str, bytes]:
    """A published batch's files in every format, its manifest, a journal, and all of it in an archive."""
    items = [BatchItem(f"i{k}", f"a text {k}", f"{k:032x}") for k in range(3)]
    batch = Batch(
        *("b1", Purpose.TRAINING, BatchStatus.PUBLISHED, 3, datetime(2025, 1, 1), None, 0, 1, DISASTER.digest),
        formats=tuple(FORMATS),
    )
    write_batch(folder, batch, Contents(items, []), DISASTER)
    files = {each.format: (folder / each.file).read_bytes() for each in batch_files(folder)}
    line = {"batch_id": "b1", "item_id": "i0", "text_hash": "0" * 32, "answer": "related", "note": "", "annotator": "a"}
    journal = (json.dumps({**line, "annotated_at": "2025-01-01T00:00:00Z", "seconds": 1.5}) + "\n").encode()
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archived:
        for name, content in files.items():
            archived.writestr(f"b/{name}.{'xlsx' if name == 'xlsx' else 'csv'}", content)
    return {
        **{f"b.{name}": content for name, content in files.items()},
        **{"b.zip": packed.getvalue(), "answers.jsonl": journal, "manifest": (folder / MANIFEST).read_bytes()},
    }


def as_bytes(words: list[str]) -> bytes:
    return "".join(words).encode("utf-8", "surrogatepass")


pieces = st.one_of(st.binary(max_size=12), st.lists(st.sampled_from(WORDS), max_size=4).map(as_bytes))
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), pieces), max_size=6)
whole = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(WORDS), max_size=40).map(as_bytes))


def edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """A file with pieces of it replaced: each at a fraction of its length."""
    for fraction, n, piece in changes:
        at = int(fraction * len(content))
        content = content[:at] + piece + content[at + n :]
    return content


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tracemalloc.start()
    yield tmp_path_factory.mktemp("fuzz")
    tracemalloc.stop()


@pytest.mark.parametrize("form", READERS)
@given(made=st.one_of(whole, edits))
def test_a_reader_answers_or_refuses_in_words(
    form: str, seeds: Seeds, place: Path, made: bytes | list[tuple[float, int, bytes]]
) -> None:
    name, read = READERS[form]
    content = made if isinstance(made, bytes) else edited(seeds[name], made)
    path = place / Path(name).with_suffix({"xlsx": ".xlsx", "zip": ".zip"}.get(form, Path(name).suffix))
    path.write_bytes(content)
    tracemalloc.reset_peak()
    try:
        read(path)
    except PalError as error:
        refusal = str(error)
        assert 2 < len(refusal) < 20_000, f"no file is printed whole: {refusal[:999]}"
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES


def test_every_seed_is_read(seeds: Seeds, place: Path) -> None:
    for name, read in READERS.values():
        if name not in ("encoder", "b.html"):
            (place / name).write_bytes(seeds[name])
            read(place / name)
