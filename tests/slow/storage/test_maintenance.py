"""A tidied lake answers as before at every version; what nobody needs is deleted, but not before a day is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from lake_histories import history, live

from storage.lake.annotations import labelled_texts
from storage.lake.store import Store
from storage.records import Split
from storage.upkeep import maintenance
from storage.upkeep.maintenance import DataFolder, maintain
from storage.upkeep.moving import training_versions
from storage.workspace import Workspace


def grow(store: Store) -> None:
    """Files large and small, one after the other."""
    live(store)
    sql = "INSERT INTO lake.features SELECT 'e2', item_id, encode(text) FROM lake.items"
    for _ in range(3):
        store.write(lambda connection: connection.execute(sql), "large", bulk=True)
        store.write(lambda connection: connection.execute(f"{sql} LIMIT 5"), "small")


def test_old_versions_answer_the_same_and_little_is_left_in_the_catalog(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = workspace.store()
    grow(store)
    newest, wanted = store.version(), history(store)
    versions = training_versions(store)
    training = [labelled_texts(store, Split.TRAINING, version) for version in versions]
    assert [table.num_rows for table in training] == sorted({table.num_rows for table in training})
    assert training[0].num_rows > 5
    done = maintain(store)
    assert done.flushed_rows > 100
    assert done.n_deleted == done.freed_bytes == 0
    again = maintain(store)
    assert (again.flushed_rows, again.n_files) == (0, (done.n_files[1], done.n_files[1]))
    monkeypatch.setattr(maintenance, "_OLD", "now() + INTERVAL 1 DAY")
    before = sum(DataFolder(store.data).sizes().values())
    last = maintain(store)
    assert last.n_deleted > 0
    assert before - sum(DataFolder(store.data).sizes().values()) == last.freed_bytes > 0
    assert history(store, newest) == wanted
    assert [labelled_texts(store, Split.TRAINING, version) for version in versions] == training
    live(store, seed=2)
    assert history(store, newest) == wanted


def test_who_was_there_all_the_while_goes_on_reading_and_writing(workspace: Workspace) -> None:
    """An open connection remembers tables of the catalog that tidying removes."""
    store = workspace.store()
    live(store)
    newest, wanted = store.version(), history(store)
    sql = "SELECT batch_id FROM lake.batches b AT (VERSION => 7)"
    before = store.rows(sql)
    assert before
    with Store(store.catalog, store.data) as streams, Store(store.catalog, store.data) as reads:
        for other in (streams, reads):
            assert other.rows(sql) == before
        maintain(store)
        assert [(row,) for each in streams.stream(sql) for row in each["batch_id"].to_pylist()] == before
        assert history(reads, newest) == wanted
        for other in (streams, reads):
            other.write(lambda connection: connection.execute("UPDATE lake.batches SET seed = seed + 1"), "a write")
    assert store.rows("SELECT DISTINCT seed FROM lake.batches") == [(3,)]


def test_an_orphan_goes_after_a_day_and_not_before(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = workspace.store()
    live(store)
    orphan = Path(store.data) / "main" / "items" / "left-by-a-kill.parquet"
    orphan.write_bytes(b"x" * 1000)
    assert maintain(store).n_deleted == 0
    assert orphan.exists()
    monkeypatch.setattr(maintenance, "_OLD", "now() + INTERVAL 1 DAY")
    assert maintain(store).n_deleted >= 1
    assert not orphan.exists()


def test_parquet_is_brought_to_disk_before_the_catalog_forgets_the_rows(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = workspace.store()
    live(store)
    synced = []
    monkeypatch.setattr("os.sync", lambda: synced.append(1))
    maintain(store)
    assert synced
