"""No byte of an erased text is in any file of the workspace, after kills too; every version of the lake still reads."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_rows import add_rows
from projects import project_of

import tasks.change_items as room
from annotation.formats.csv_file import read_csv
from annotation.formats.journal import Journal
from annotation.label_set import Label
from storage.errors import BatchError
from storage.lake.annotations import label_counts, labelled_texts
from storage.lake.batches import find_batch
from storage.lake.importing import import_source
from storage.lake.models import promote
from storage.readers.opening import open_source
from storage.readers.spellings import text_hash
from storage.records import Answer, Batch, BatchStatus, Split
from storage.run_records import new_run
from storage.upkeep.check import check_workspace
from storage.upkeep.erasure import Mentions
from storage.upkeep.maintenance import maintain
from storage.workspace import Workspace
from tasks.change_items import edit_item, erase_items, plan_of
from tasks.collect import collect_answers
from tasks.config.settings import BatchConfig, TaskConfig
from tasks.learning.encoders import StaticVectors
from tasks.learning.training import TrainingConfig
from tasks.predict_pool import predict_pool
from tasks.prepare import make_features
from tasks.project import Project
from tasks.sample import publish_batches
from tasks.train import train_model

SPAWN = multiprocessing.get_context("spawn")
TEXT = 'Zoë "Zanzibarquux"\nflees & <b>Kryptonville</b>, at dawn'
EARLIER = "Zoe Zanzibarquux fled Kryptonvile at dawn"
NEEDLE = re.compile(rb"zanzibarquux|kryptonvil", re.IGNORECASE)
FORMATS = ("csv", "xlsx", "html", "label-studio", "argilla", "doccano", "prodigy", "original")
OTHERS = {f"o{k}": f"Another text of number {k}" for k in range(12)}


def project_at(root: Path, *servers: str) -> Project:
    project = project_of(
        Workspace(root, *servers), training=TrainingConfig(epochs=2), batch=BatchConfig(formats=FORMATS)
    )
    project.workspace.config_file.touch()
    return project


@pytest.fixture
def lived(lived_once: Path, tmp_path: Path) -> Project:
    """A copy of it."""
    return project_at(Path(shutil.copytree(lived_once, tmp_path / "workspace")))


@pytest.fixture(scope="module")
def lived_once(
    shared_workspace: Workspace, reserve_batch: Callable[..., Batch], give_labels: Callable[..., None]
) -> Path:
    """A workspace in which item `gone` was imported, edited, answered, quoted, learned from, predicted and reported."""
    project = live(project_at(shared_workspace.root), reserve_batch, give_labels)
    project.workspace.close()
    return project.workspace.root


def live(project: Project, reserve_batch: Callable[..., Batch], give_labels: Callable[..., None]) -> Project:
    """Live that life in a workspace."""
    workspace = project.workspace  # one connection: two would mind the catalog being written anew
    store, root = workspace.store(), workspace.root
    maintain(store)
    first = reserve_batch(workspace, {"gone": EARLIER, **dict(list(OTHERS.items())[:2])})
    publish_batches(project)
    maintain(store)
    edit_item(project, "gone", TEXT)
    with Journal(workspace.batches / first.batch_id / "answers-anna.jsonl") as journal:
        journal.append(first.batch_id, text_hash(TEXT), Answer("gone", "related", "anna", f"I quote: {TEXT}"))
        journal.append(first.batch_id, text_hash(OTHERS["o0"]), Answer("o0", "not_related", "anna"))
    with zipfile.ZipFile(workspace.inbox / "sent.zip", "w") as archive:
        sent = f"batch_id,item_id,text,label\r\n{first.batch_id},o1,{OTHERS['o1']},related\r\n"
        archive.writestr(
            "a.csv", f'{sent}{first.batch_id},gone,"{TEXT}, but changed",related\r\n'.replace('oë "', 'oë ""')
        )
    collect_answers(project)
    add_rows(store, list(OTHERS.items()))
    give_labels(workspace, dict.fromkeys(list(OTHERS)[2:6], "related"), Split.EVALUATION)
    make_features(project)
    model_id = train_model(project).model_id
    promote(store, model_id)
    maintain(store)
    predict_pool(project, root / "all.parquet", "parquet")
    predict_pool(project, root / "out" / "all.jsonl", "jsonl") if (root / "out").mkdir() is None else None
    (root / "mine.txt").write_text(TEXT, encoding="utf-16")
    (workspace.reports / "r.html.gz").write_bytes(gzip.compress(b"<p>Zo&#235; &quot;Zanzibarquux&quot; flees &amp;"))
    workspace.runs().put(replace(new_run("import"), message=f"Row 3: {TEXT[:60]!r}"))
    reserve_batch(workspace, {"gone2": "Kryptonville burns", "o11": OTHERS["o11"]})
    publish_batches(project)
    if store.kind == "sqlite":
        store.keep_catalog(root / "lake" / "catalog.before-schema-1.sqlite")
    return project


def strings_in(data: bytes) -> Iterator[bytes]:
    """What a file holds: its bytes, its members', its columns'."""
    yield data
    yield data.replace(b"\0", b"")
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from strings_in(archive.read(name))
    elif data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    elif data.startswith(b"PAR1"):
        for column in pq.read_table(pa.BufferReader(data)).columns:
            yield b"\n".join(
                value if isinstance(value, bytes) else str(value).encode() for value in column.to_pylist() if value
            )


def traces(root: Path) -> list[str]:
    tokens = StaticVectors().tokenize(pa.array([TEXT, EARLIER, "Kryptonville burns"])).to_arrow().to_pylist()
    return [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and any(NEEDLE.search(part) or any(each in part for each in tokens) for part in strings_in(path.read_bytes()))
    ]


def erase(project: Project, *item_ids: str) -> Any:
    return erase_items(project, plan_of(project, item_ids))


def test_no_byte_of_the_text_is_left_and_every_version_still_reads(lived: Project) -> None:
    workspace, root = lived.workspace, lived.workspace.root
    store = workspace.store()
    places = traces(root)
    assert len(places) > 15, places
    versions = [row[0] for row in store.rows("SELECT snapshot_id FROM ducklake_snapshots('lake') ORDER BY 1")]
    newest, before = versions[-1], {}
    for version in versions[1:]:
        before[version] = store.rows(f"SELECT item_id, text FROM lake.items AT (VERSION => {version}) ORDER BY 1")
    labelled = labelled_texts(store, Split.TRAINING, newest).to_pylist()
    plan = plan_of(lived, ["gone", "gone2"])
    assert traces(root) == places, "a plan changes nothing"
    assert plan.erasure.models == tuple(row[0] for row in store.rows("SELECT model_id FROM lake.models"))
    done = erase_items(lived, plan)
    assert traces(root) == ["mine.txt"]
    assert done.left == ("mine.txt",)
    assert {"all.parquet", "out/all.jsonl", "reports/r.html.gz", "inbox/rejected/sent.zip"} <= set(done.deleted)
    for version, rows in before.items():
        expected = [(name, "" if name in ("gone", "gone2") else text) for name, text in rows]
        assert store.rows(f"SELECT item_id, text FROM lake.items AT (VERSION => {version}) ORDER BY 1") == expected
    kept = [row for row in labelled if row["item_id"] != "gone"]
    assert labelled_texts(store, Split.TRAINING, newest).to_pylist() == kept
    assert sum(label_counts(store)[Split.TRAINING].values()) == len(kept)
    first, second = "b0001-training", "b0002-training"
    assert find_batch(store, first).batch.status is BatchStatus.INGESTED
    shown = {row.item_id: (row.label, row.annotator) for row in read_csv(workspace.batches / first / "batch.csv")}
    assert shown == {"o0": ("not_related", "anna"), "o1": ("related", shown["o1"][1])}
    assert collect_answers(lived) == [], "they are no new answers"
    assert (find_batch(store, second).batch.n, find_batch(store, second).batch.status) == (1, BatchStatus.PUBLISHED)
    assert not check_workspace(workspace).damaged
    assert workspace.runs().all()[0].message == ""


def test_what_was_erased_is_not_imported_again_and_twice_is_once(lived: Project, tmp_path: Path) -> None:
    store = lived.workspace.store()
    erase(lived, "gone", "gone2")
    (tmp_path / "again.txt").write_text(f"{EARLIER.upper()}\nkryptonville BURNS\nNew text\n", encoding="utf-8")
    with lived.workspace.scratch() as scratch:
        rejects = lived.workspace.reports / "rejects.csv"
        found = import_source(store, open_source(tmp_path / "again.txt"), scratch, rejects, lambda _: None)
    assert (found.n_new, found.n_rejected) == (1, 2)
    assert traces(lived.workspace.root) == ["mine.txt"]
    version = store.version()
    for item_ids in (("gone",), ()):
        with pytest.raises(BatchError):
            plan_of(lived, item_ids)
    assert store.version() == version
    again = add_rows(store, [("gone", EARLIER), ("gone", "A new text under the old id"), ("gone", "And another")])
    assert (again.n_new, [row["owner"] for row in again.conflicts.to_pylist()]) == (
        1,
        [None, "A new text under the old id"],
    )


def test_files_that_wait_to_be_ingested_are_not_lost(lived: Project) -> None:
    renamed = replace(lived.label_set, labels=(*lived.label_set.labels, Label("other")))
    assert plan_of(lived.with_config(task=TaskConfig.of(renamed)), ["gone"]), "the same files, read by other labels"
    (lived.workspace.inbox / "new.csv").write_text("batch_id,item_id,text,label\nb0001-training,o0,x,related\n")
    with pytest.raises(BatchError):
        plan_of(lived, ["gone"])


def die_at(root: Path, step: int) -> None:
    """Erase until a step of it begins, and die there."""
    steps = ["records", "lake files", "catalog", "batches", "end"]

    def dying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def died(*arguments: Any, **options: Any) -> Any:
            if steps.index(name) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return died

    import storage.upkeep.erasure as lake
    from storage.lake.store import Store

    lake._blank_files = dying("lake files", lake._blank_files)
    Store.edit_catalog = dying("catalog", Store.edit_catalog)  # type: ignore[method-assign]
    room._write_batches_again = dying("batches", room._write_batches_again)
    room._edit_records = dying("records", room._edit_records)
    project = project_at(root)
    plan = plan_of(project, ["gone", "gone2"])
    room._files_with = dying("end", room._files_with)
    erase_items(project, plan)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_killed_erasure_is_finished_by_the_next_call(lived: Project, step: int) -> None:
    root = lived.workspace.root
    lived.workspace.close()
    process = SPAWN.Process(target=die_at, args=(root, step))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    project = project_at(root)
    erase(project)
    assert traces(root) == ["mine.txt"]
    assert not check_workspace(project.workspace).damaged


def test_a_text_is_seen_whatever_writes_it(tmp_path: Path) -> None:
    mentions = Mentions([TEXT, "\U0001f525", "!!"])
    written = {
        "json": b'{"t": "Zo\\u00eb \\"Zanzibarquux\\"\\nflees & <b>Kryptonville</b>"}',
        "html": b"<td>Zo&euml; &quot;Zanzibarquux&quot;<br>flees &amp; &lt;b&gt;Krypton",
        "utf16": TEXT.encode("utf-16"),
        "cp1252": TEXT.encode("cp1252"),
        "emoji": "a \U0001f525 b".encode(),
        "csv": b'1,"ZO\xc3\x8b ""Zanzibarquux""\r\nflees & <b>Krypton',
    }
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
        assert mentions.in_file(tmp_path / name), name
    (tmp_path / "other").write_bytes(b"Zanzibarquux alone, and !!")
    assert not mentions.in_file(tmp_path / "other")
