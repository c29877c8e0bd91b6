"""A lake that was moved answers as it did, at every version, wherever it went; nothing else is ever overwritten."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kill_at_line import killed_at, lines_of
from lake_histories import history, live
from lake_rows import add_rows
from servers import Postgres

from storage.errors import StoreError
from storage.lake.store import Store
from storage.records import RunStatus
from storage.run_records import new_run
from storage.upkeep import moving
from storage.upkeep.moving import move_lake
from storage.workspace import Workspace


@pytest.fixture
def lived(lived_once: Path, tmp_path: Path) -> Store:
    """A lake on SQLite with a history."""
    return Workspace(shutil.copytree(lived_once, tmp_path / "lived")).store()


def on_disk(folder: Path) -> tuple[str, str]:
    return f"sqlite:{folder}/catalog.sqlite", f"{folder}/data/"


def on_servers(cluster: tuple[str, str]) -> tuple[str, str]:
    return cluster[0], f"{cluster[1]}/"


def test_a_lake_goes_to_servers_and_back_with_every_version(
    lived: Store, cluster: tuple[str, str], tmp_path: Path
) -> None:
    wanted, newest = history(lived), lived.version()
    there = on_servers(cluster)
    moved = move_lake(lived, *there, tmp_path)
    assert moved.newest == newest == lived.version()
    assert moved.rows["items"] == 12_015
    assert len(moved.versions) == 3
    assert moved.n_files >= 2
    with Store(*there) as store:
        assert history(store) == wanted
        live(store, seed=2)
        assert history(store, newest) == wanted
        wanted, newest = history(store), store.version()
        move_lake(store, *on_disk(tmp_path / "back"), tmp_path)
    with Store(*on_disk(tmp_path / "back")) as store:
        assert history(store) == wanted
        live(store, seed=3)
        assert history(store, newest) == wanted
        assert store.rows("SELECT count(*) FROM lake.items") == [(3 * 12_015,)]


def test_the_record_of_runs_goes_to_servers_and_back(
    workspace: Workspace, cluster: tuple[str, str], tmp_path: Path
) -> None:
    shared, other = Workspace(workspace.root, *cluster), Workspace(tmp_path / "other", *cluster)
    old, new = new_run("nightly"), new_run("ingest")
    workspace.runs().put(old)
    assert move_lake(workspace.store(), *shared.lake, workspace.root).n_runs == 1
    assert other.runs().all() == [old]
    ended = replace(old, status=RunStatus.COMPLETED, message="it's done")
    workspace.runs().put(ended)
    move_lake(workspace.store(), *shared.lake, workspace.root)
    assert other.runs().all() == [ended], "the newer record counts"
    other.runs().put(new)
    back = Workspace(tmp_path / "back")
    assert move_lake(shared.store(), *back.lake, back.root).n_runs == 2
    assert back.runs().all() == [ended, new]
    assert workspace.runs().all() == [ended]


def test_a_lake_moved_within_its_workspace_keeps_its_record_of_runs(workspace: Workspace) -> None:
    record = new_run("nightly")
    workspace.runs().put(record)
    there = Workspace(workspace.root, "sqlite:elsewhere/c.sqlite", "elsewhere/data")
    assert move_lake(workspace.store(), *there.lake, workspace.root).n_runs == 1
    assert there.runs().all() == [record]


def test_moving_again_brings_over_what_came_since(lived: Store, tmp_path: Path) -> None:
    there = on_disk(tmp_path / "there")
    first = move_lake(lived, *there, tmp_path)
    again = move_lake(lived, *there, tmp_path)
    assert (again.rows, again.newest, again.copied_bytes) == (first.rows, first.newest, 0)
    add_rows(lived, [("new", "one more text")])
    assert move_lake(lived, *there, tmp_path).rows["items"] == first.rows["items"] + 1
    with Store(*there) as store:
        assert history(store) == history(lived)


def changed_since(lived: Store, there: tuple[str, str], folder: Path) -> None:
    move_lake(lived, *there, folder)
    with Store(*there) as store:
        add_rows(store, [("theirs", "a text of theirs")])


def others(lived: Store, there: tuple[str, str], folder: Path) -> None:
    with Store(*there) as store:
        store.write(lambda connection: connection.execute("CREATE TABLE lake.x (k BIGINT)"), "theirs")


def strange_file(lived: Store, there: tuple[str, str], folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "x.parquet").touch()


@pytest.mark.parametrize(
    ("spoil", "values"),
    [
        (changed_since, r"there/catalog\.sqlite"),
        (others, r"there/catalog\.sqlite"),
        (strange_file, r"there/data/.*\b1\b.*\bx\.parquet\b"),
    ],
)
def test_a_target_that_holds_something_else_is_refused_and_left_alone(
    lived: Store, tmp_path: Path, spoil: Callable[[Store, tuple[str, str], Path], None], values: str
) -> None:
    there = on_disk(tmp_path / "there")
    (tmp_path / "there").mkdir()
    spoil(lived, there, tmp_path / "there")
    with Store(*there) as store:
        before = store.version()
    with pytest.raises(StoreError, match=values):
        move_lake(lived, *there, tmp_path)
    with Store(*there) as store:
        assert store.version() == before


def test_a_lake_is_not_moved_onto_itself(lived: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="pal lake move"):
        move_lake(lived, "sqlite:/elsewhere", lived.data, tmp_path)


def test_a_copy_that_is_not_the_same_is_told(lived: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = moving.copy_catalog
    sql = "SELECT table_id FROM __ducklake_metadata_lake.ducklake_table WHERE table_name = 'items'"
    inlined = f"ducklake_inlined_data_{lived.rows(sql)[0][0]}_1"

    def spoilt(connection: object, source: str, target: str, kind: str, data: str) -> None:
        copied(connection, source, target, kind, data)  # type: ignore[arg-type]
        connection.execute(f"DELETE FROM target.{inlined} WHERE row_id = 12000")  # type: ignore[attr-defined]

    monkeypatch.setattr(moving, "copy_catalog", spoilt)
    with pytest.raises(StoreError, match=r"\b\d+\b.*\b\d+\b"):
        move_lake(lived, *on_disk(tmp_path / "there"), tmp_path)


def test_a_data_file_of_another_size_stops_the_move(lived: Store, tmp_path: Path) -> None:
    path = next(Path(lived.data).rglob("*.parquet"))
    path.write_bytes(b"short")
    with pytest.raises(StoreError, match=rf"{path.name}\b.*\b5\b.*\b\d+"):
        move_lake(lived, *on_disk(tmp_path / "there"), tmp_path)


def test_two_that_keep_house_at_once_are_refused(lived: Store, tmp_path: Path) -> None:
    with lived.housekeeping("pal maintain"), pytest.raises(StoreError, match="pal lake move"):
        move_lake(lived, *on_disk(tmp_path / "there"), tmp_path)
    assert move_lake(lived, *on_disk(tmp_path / "there"), tmp_path).rows["items"] == 12_015


def move(root: Path, catalog: str, data: str) -> None:
    move_lake(Workspace(root).store(), catalog, data, root)


def test_moving_again_after_kill_9_at_any_line_finishes(
    lived: Store, cluster: tuple[str, str], postgres: Postgres, tmp_path: Path
) -> None:
    root, wanted = tmp_path / "lived", history(lived)
    lines = lines_of(move, root, *on_disk(tmp_path / "undisturbed"))
    for share in (50, 75, 90):
        name = f"killed_{share}_{uuid.uuid4().hex}"
        postgres.create(name)
        there = postgres.catalog(name), f"{cluster[1]}/{share}/"
        killed_at(share * lines // 100, move, root, *there)
        assert move_lake(lived, *there, tmp_path).rows["items"] == 12_015
        with Store(*there) as store:
            assert history(store) == wanted
