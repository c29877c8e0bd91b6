"""Folders that several machines share through a real S3 server: whole or not at all, and nobody's work is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kill_at_line import killed_at, lines_of
from machines import FORKED, machine, stored, texts, write
from servers import S3
from together import together

from storage.errors import StoreError
from storage.files.folders import MANIFEST, add_files
from storage.files.mirror import MEMORY, Mirror
from storage.files.object_store import ObjectStore

KILLS = 8
BATCH = "batches/b1"
FILES = {"batch.csv": "published", "definition.txt": "which?"}


@pytest.fixture
def store(shared_root: str) -> ObjectStore:
    """What everybody sees."""
    return ObjectStore(shared_root)


@pytest.fixture
def anna(shared_root: str, tmp_path: Path) -> Mirror:
    """One machine; its folders are in tmp_path/anna."""
    return machine(shared_root, tmp_path / "anna")


@pytest.fixture
def bert(shared_root: str, tmp_path: Path) -> Mirror:
    """Another; its folders are in tmp_path/bert."""
    return machine(shared_root, tmp_path / "bert")


@pytest.fixture
def shared(anna: Mirror, bert: Mirror, tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a batch that both machines have."""
    write(tmp_path / "anna" / BATCH, FILES)
    anna.push_batches(edits=False)
    bert.pull_batches()
    return tmp_path / "anna" / BATCH, tmp_path / "bert" / BATCH


# Models and encoders


def test_a_model_is_fetched_whole_where_it_is_missing_and_only_there(
    anna: Mirror, bert: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    here, there = tmp_path / "anna" / "models" / "m1", tmp_path / "bert" / "models" / "m1"
    write(here, {"model.safetensors": "weights"})
    assert not bert.fetch("models/m1")
    assert not there.exists()
    for _ in range(2):
        anna.publish(here)
        assert bert.fetch("models/m1")
        assert texts(there) == {"model.safetensors": "weights"}
        assert (there / MANIFEST).read_bytes() == (here / MANIFEST).read_bytes()
    store.put("models/m1/model.safetensors", b"damaged")
    anna.publish(here)
    bert.fetch("models/m1")
    assert stored(store, "models/m1") == {"model.safetensors": "damaged"}, "what never changes is not written again"
    assert texts(there) == {"model.safetensors": "weights"}


def test_what_is_written_into_a_model_later_follows_also_from_a_machine_that_fetched_it(
    anna: Mirror, bert: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    write(tmp_path / "anna" / "models" / "m1", {"w": "1"})
    anna.publish(tmp_path / "anna" / "models" / "m1")
    bert.fetch("models/m1")
    for figure in ("0.5", "0.7"):
        (tmp_path / "bert" / "models" / "m1" / "evaluation.json").write_text(figure, encoding="utf-8")
        bert.publish(tmp_path / "bert" / "models" / "m1")
        assert stored(store, "models/m1") == {"w": "1", "evaluation.json": figure}


def test_folders_of_before_the_store_was_shared_are_published_and_all_encoders_fetched(
    anna: Mirror, bert: Mirror, tmp_path: Path
) -> None:
    for name in ("e1", "e2"):
        write(tmp_path / "anna" / "encoders" / name, {"vectors": name})
    (tmp_path / "anna" / "encoders" / ".e3.work").mkdir()
    (tmp_path / "anna" / "encoders" / "e4").mkdir()
    for _ in range(2):
        anna.publish_missing("encoders")
        bert.fetch_all("encoders")
    assert {path.name: texts(path) for path in (tmp_path / "bert" / "encoders").iterdir()} == {
        "e1": {"vectors": "e1"},
        "e2": {"vectors": "e2"},
    }


# Batches


def test_a_batch_without_a_manifest_is_not_brought_and_one_that_was_lost_is_brought_back(
    anna: Mirror, bert: Mirror, store: ObjectStore, shared: tuple[Path, Path]
) -> None:
    here, there = shared
    assert texts(there) == FILES
    store.put("batches/b2/batch.csv", b"half")
    store.put("batches/.b3.7.part/manifest.json", b"{}")
    for path in there.iterdir():
        path.unlink()
    there.rmdir()
    bert.pull_batches()
    assert [path.name for path in there.parent.iterdir()] == ["b1"]
    assert texts(there) == FILES
    for name in list(store.listing(BATCH)):
        store.delete(name)
    anna.pull_batches()
    anna.push_batches(edits=False)
    assert stored(store, BATCH) == texts(here) == FILES


def test_names_that_lead_out_of_a_folder_are_left_alone(bert: Mirror, store: ObjectStore, tmp_path: Path) -> None:
    for name in ("manifest.json", "x\\..\\..\\y.csv", "deep/down/x.csv", ".hidden", "~$batch.xlsx"):
        store.put(f"batches/b1/{name}", b"{}")
    bert.pull_batches()
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        f"bert/{name}" for name in (".files.json", ".files.lock", f"{BATCH}/manifest.json", f"{BATCH}/~$batch.xlsx")
    }


def test_an_edit_follows_from_the_store_and_from_another_machine(
    anna: Mirror, bert: Mirror, store: ObjectStore, shared: tuple[Path, Path]
) -> None:
    here, there = shared
    store.put(f"{BATCH}/batch.csv", b"filled in by an annotator")
    store.put(f"{BATCH}/answers.csv", b"new")
    anna.pull_batches()
    assert texts(here) == {**FILES, "batch.csv": "filled in by an annotator", "answers.csv": "new"}
    (here / "batch.csv").write_text("and by me", encoding="utf-8")
    anna.push_batches(edits=False)
    bert.pull_batches()
    assert texts(there)["batch.csv"] == "filled in by an annotator"
    anna.push_batches(edits=True)
    bert.pull_batches()
    assert texts(there) == {**FILES, "batch.csv": "and by me", "answers.csv": "new"}


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(
    anna: Mirror, store: ObjectStore, shared: tuple[Path, Path]
) -> None:
    for k in range(10):
        store.put(f"{BATCH}/batch.csv", f"answer {k}".encode())
        anna.pull_batches()
        assert texts(shared[0])["batch.csv"] == f"answer {k}"


def test_of_a_file_edited_in_two_places_both_are_kept_and_read_everywhere(
    anna: Mirror, bert: Mirror, store: ObjectStore, shared: tuple[Path, Path]
) -> None:
    here, there = shared
    for each, folder, text in ((anna, here, "of anna"), (bert, there, "of bert")):
        (folder / "batch.csv").write_text(text, encoding="utf-8")
        each.push_batches(edits=True)
    anna.pull_batches()
    assert sorted(stored(store, BATCH).values()) == ["of anna", "of bert", "which?"]
    assert stored(store, BATCH)["batch.csv"] == "of bert"
    assert texts(here) == texts(there) == stored(store, BATCH)
    for each in (anna, bert, anna):
        each.pull_batches()
        each.push_batches(edits=True)
    assert texts(here) == texts(there) == stored(store, BATCH)
    assert len(texts(here)) == 3, "one copy, however often it is compared"


def test_a_machine_that_forgot_what_it_saw_takes_the_stores_answers_for_what_it_published(
    anna: Mirror, store: ObjectStore, shared: tuple[Path, Path], tmp_path: Path
) -> None:
    for memory in ("", "{torn", json.dumps({"root": "s3://another/root", "seen": {}})):
        (tmp_path / "anna" / MEMORY).write_text(memory, encoding="utf-8")
        (shared[0] / "batch.csv").write_text("published", encoding="utf-8")
        store.put(f"{BATCH}/batch.csv", f"filled in {memory}".encode())
        anna.pull_batches()
        anna.push_batches(edits=True)
        assert texts(shared[0]) == stored(store, BATCH) == {**FILES, "batch.csv": f"filled in {memory}"}


def test_a_journal_grows_in_place_so_that_a_terminal_that_has_it_open_goes_on_in_it(
    anna: Mirror, bert: Mirror, shared: tuple[Path, Path]
) -> None:
    here, there = (folder / "answers-zoe.jsonl" for folder in shared)
    here.write_text("1\n", encoding="utf-8")
    anna.push_batches(edits=True)
    bert.pull_batches()
    with here.open("ab", buffering=0) as open_in_a_terminal:
        with there.open("ab", buffering=0) as elsewhere:
            elsewhere.write(b"2\n")
        bert.push_batches(edits=True)
        anna.pull_batches()
        open_in_a_terminal.write(b"3\n")
    assert here.read_text(encoding="utf-8") == "1\n2\n3\n"
    there.write_text("1\n2\n4\n", encoding="utf-8")
    bert.push_batches(edits=True)
    anna.push_batches(edits=True)
    bert.pull_batches()
    assert texts(shared[0]) == texts(shared[1])
    assert sorted(texts(shared[0]).values()) == ["1\n2\n3\n", "1\n2\n4\n", "published", "which?"]


def test_more_formats_of_a_batch_come_to_the_other_machine_with_the_manifest_that_names_them(
    anna: Mirror, bert: Mirror, shared: tuple[Path, Path]
) -> None:
    def more(part: Path) -> dict[str, Any]:
        (part / "batch.html").write_text("page", encoding="utf-8")
        return {"files": {"batch.html": "x"}}

    add_files(shared[0], more)
    anna.push_batches(edits=True)
    bert.pull_batches()
    assert texts(shared[1]) == {**FILES, "batch.html": "page"}
    assert (shared[1] / MANIFEST).read_bytes() == (shared[0] / MANIFEST).read_bytes()


@pytest.mark.parametrize("first", ["pull", "push"])
def test_a_list_of_errors_that_an_ingest_removed_goes_everywhere_and_an_annotators_file_does_not(
    anna: Mirror, bert: Mirror, store: ObjectStore, shared: tuple[Path, Path], first: str
) -> None:
    here, there = shared
    for name in ("batch.csv.errors.csv", "mine.csv"):
        (here / name).write_text("row 1", encoding="utf-8")
    anna.push_batches(edits=True)
    bert.pull_batches()
    for name in ("batch.csv.errors.csv", "mine.csv"):
        (there / name).unlink()
    if first == "push":
        bert.push_batches(edits=True)
    bert.pull_batches()
    anna.pull_batches()
    anna.push_batches(edits=True)
    assert texts(here) == texts(there) == stored(store, BATCH) == {**FILES, "mine.csv": "row 1"}


# Two at once, and killed


def publish_there(root: str, local: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    mirror = Mirror(root, local)
    mirror.pull_batches()
    mirror.push_batches(edits=True)
    mirror.publish_missing("models")


def test_two_machines_and_two_processes_of_one_at_once_end_as_one_after_the_other(
    shared_root: str, store: ObjectStore, s3: S3, tmp_path: Path
) -> None:
    locals_ = [tmp_path / "anna", tmp_path / "bert"]
    for local in locals_:
        for k in range(4):
            write(local / f"batches/b{k}", FILES)
            write(local / f"models/m{k}", {"w": f"weights {k}"})
        (local / "batches/b0/batch.csv").write_text(f"filled in by {local.name}", encoding="utf-8")
    together(publish_there, *((shared_root, local, s3.environment) for local in locals_ * 2))
    for local in locals_:
        publish_there(shared_root, local, s3.environment)
    assert {text for text in stored(store, "batches/b0").values() if "filled" in text} & {
        "filled in by anna",
        "filled in by bert",
    }
    for k in range(1, 4):
        assert stored(store, f"batches/b{k}") == FILES
        assert stored(store, f"models/m{k}") == {"w": f"weights {k}"}
        assert store.get(f"models/m{k}/{MANIFEST}") == (tmp_path / f"anna/models/m{k}" / MANIFEST).read_bytes()


def fetch_there(root: str, local: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    mirror = Mirror(root, local)
    mirror.pull_batches()
    mirror.fetch_all("models")


def assert_whole_or_nothing(store: ObjectStore) -> None:
    for folder, files in ((BATCH, {**FILES, "batch.csv": "filled in"}), ("models/m1", {"w": "1", "x": "2"})):
        if f"{folder}/{MANIFEST}" in store.listing(folder):
            assert stored(store, folder) == files


@pytest.mark.parametrize("work", [publish_there, fetch_there])
def test_killed_at_any_line_nothing_half_counts_and_the_next_call_ends_it(
    work: Callable[..., None], shared_root: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_at_line.SPAWN", FORKED)

    def begun(name: str) -> tuple[str, Path, dict[str, str]]:
        """A machine with a batch and a model, and a folder of its own in the store; to fetch they are there, newer."""
        local, root = tmp_path / name, f"{shared_root}/{name}"
        write(local / BATCH, FILES)
        if work is publish_there:
            write(local / "models" / "m1", {"w": "1", "x": "2"})
            (local / BATCH / "batch.csv").write_text("filled in", encoding="utf-8")
        else:
            other = machine(root, tmp_path / f"other-{name}")
            write(tmp_path / f"other-{name}" / BATCH, FILES)
            (tmp_path / f"other-{name}" / BATCH / "batch.csv").write_text("filled in", encoding="utf-8")
            write(tmp_path / f"other-{name}" / "models" / "m1", {"w": "1", "x": "2"})
            other.push_batches(edits=True)
            other.publish_missing("models")
        return root, local, s3.environment

    lines = lines_of(work, *begun("whole"))
    assert lines > KILLS
    for k in range(KILLS):
        arguments = root, local, _ = begun(f"killed-{k}")
        killed_at(1 + k * (lines - 1) // (KILLS - 1), work, *arguments)
        assert_whole_or_nothing(ObjectStore(root))
        for folder, names in ((local / BATCH, FILES), (local / "models" / "m1", "wx")):
            if (folder / MANIFEST).exists():
                assert set(names) <= texts(folder).keys()
        work(*arguments)
        there = ObjectStore(root)
        batch, model = (
            {name: text for name, text in texts(folder).items() if not name.endswith(".part")}  # of the killed process
            for folder in (local / BATCH, local / "models" / "m1")
        )
        assert stored(there, BATCH) == batch == {**FILES, "batch.csv": "filled in"}
        assert stored(there, "models/m1") == model == {"w": "1", "x": "2"}
