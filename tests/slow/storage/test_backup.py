"""A backup brings everything back as it was at one moment, and never leaves half of it, here or there."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from lake_histories import history, live
from lake_rows import add_rows
from waiting import until

from storage.errors import StoreError, WorkspaceError
from storage.records import RunStatus
from storage.run_records import RUNS_FILE, new_run
from storage.upkeep.backup import back_up, read_backup, restore
from storage.upkeep.maintenance import maintain
from storage.workspace import Workspace

FILES = {
    "pal.toml": "# settings\n",
    "batches/0001/batch.csv": "id,text\n",
    "models/old/weights": "w" * 1000,
    "encoders/e/vectors": "v",
    "reports/latest.html": "<p>é",
    "inbox/filled.csv": "late answers",
}


RUNS = [
    replace(new_run(flow), status=status, message="it's é")
    for flow, status in (("nightly", RunStatus.COMPLETED), ("ingest", RunStatus.FAILED))
]


@pytest.fixture
def lived(workspace: Workspace, request: pytest.FixtureRequest) -> Workspace:
    """A workspace with a history, two runs and a file in every folder."""
    if workspace.catalog.startswith("sqlite:"):
        shutil.copytree(request.getfixturevalue("lived_once"), workspace.root, dirs_exist_ok=True)
    else:
        live(workspace.store())
    workspace.runs().put(*RUNS)
    write_files(workspace.root, FILES)
    return workspace


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def files_in(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text(encoding="utf-8") for name in FILES}


def at(root: Path, like: Workspace) -> Workspace:
    return Workspace(root, like.catalog, like.data)


def test_a_workspace_comes_back_elsewhere_with_every_version_and_goes_on(lived: Workspace, tmp_path: Path) -> None:
    wanted, version = history(lived.store()), lived.store().version()
    backup, new_bytes = back_up(lived, tmp_path / "kept")
    assert backup.lake_version == version
    assert new_bytes == backup.n_bytes
    found, aside = restore(tmp_path / "kept", tmp_path / "again")
    assert (found, aside) == (backup, None)
    again = at(tmp_path / "again", lived)
    assert files_in(again.root) == FILES
    assert history(again.store()) == wanted
    assert again.runs().all() == RUNS
    live(again.store(), seed=2)
    assert history(again.store(), version) == wanted
    assert history(lived.store()) == wanted


def test_after_a_loss_the_lake_is_there_again(
    workspace: Workspace, lived: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = history(lived.store())
    back_up(lived, tmp_path / "kept")
    lived.store().write(lambda connection: connection.execute("DROP TABLE lake.items"), "lost")
    lived.runs().put(replace(RUNS[0], message="since"), new_run("nightly"))
    if lived.catalog.startswith("postgres:"):
        with pytest.raises(StoreError, match="postgres:"):
            restore(tmp_path / "kept", tmp_path / "again")
        assert not (tmp_path / "again").exists()
    with pytest.raises(WorkspaceError, match="pal restore --force"):
        restore(tmp_path / "kept", lived.root)
    _, aside = restore(tmp_path / "kept", lived.root, force=True)
    assert history(lived.store()) == wanted
    assert lived.runs().all() == RUNS, "as they were at that moment"
    assert (lived.root / RUNS_FILE).exists() == lived.catalog.startswith("sqlite:")
    assert files_in(lived.root) == FILES
    assert aside is not None
    assert files_in(aside) == FILES
    live(lived.store(), seed=2)


def test_a_second_backup_adds_what_is_new_and_forgets_what_is_gone(lived: Workspace, tmp_path: Path) -> None:
    first, _ = back_up(lived, tmp_path / "kept")
    add_rows(lived.store(), [(f"new-{k}", f"new text {k}") for k in range(11_000)])
    write_files(lived.root, {"inbox/another.csv": "more"})
    (lived.root / "reports" / "latest.html").unlink()
    second, new_bytes = back_up(lived, tmp_path / "kept")
    added = second.data.keys() - first.data.keys()
    assert added
    assert new_bytes == sum(second.data[name].bytes for name in added) + second.catalog.bytes + len("more")
    assert read_backup(tmp_path / "kept") == second
    kept = [path.name for path in (tmp_path / "kept" / "objects").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(
        {each.sha256 for each in (second.catalog, *second.data.values(), *second.files.values())}
    )
    restore(tmp_path / "kept", tmp_path / "again")
    assert history(at(tmp_path / "again", lived).store()) == history(lived.store())
    assert not (tmp_path / "again" / "reports" / "latest.html").exists()


def test_a_backup_while_others_write_is_of_one_version(workspace: Workspace, tmp_path: Path) -> None:
    store = workspace.store()
    write_files(workspace.root, FILES)
    store.write(lambda c: c.execute("CREATE TABLE lake.a (k BIGINT); CREATE TABLE lake.b (k BIGINT)"), "tables")
    stop = threading.Event()

    def write() -> None:
        k = 0
        while not stop.is_set():
            k += 1
            rows = 11_000 if k % 4 == 0 else 1
            sql = f"INSERT INTO lake.a SELECT {k} FROM range({rows}); INSERT INTO lake.b SELECT {k} FROM range({rows})"
            store.write(lambda connection, sql=sql: connection.execute(sql), str(k))  # type: ignore[misc]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = []
        for turn in range(3):
            made.append(back_up(workspace, tmp_path / f"kept{turn}")[0])
            until(lambda: store.version() > made[-1].lake_version)
    finally:
        stop.set()
        writer.join()
    assert made[0].lake_version < made[2].lake_version
    wanted = store.rows(f"SELECT count(*), max(k) FROM lake.a AT (VERSION => {made[1].lake_version})")
    workspace.close()
    restore(tmp_path / "kept1", tmp_path / "again", force=True)
    again = at(tmp_path / "again", workspace).store()
    assert again.version() == made[1].lake_version
    for table in "ab":
        assert again.rows(f"SELECT count(*), max(k) FROM lake.{table}") == wanted


def test_a_backup_is_not_begun_while_the_lake_is_tidied(lived: Workspace, tmp_path: Path) -> None:
    with lived.store().housekeeping("pal maintain"), pytest.raises(StoreError, match="pal backup"):
        back_up(lived, tmp_path / "kept")
    with lived.store().housekeeping("pal backup"), pytest.raises(StoreError, match="pal maintain"):
        maintain(lived.store())


def test_a_place_that_is_no_backup_is_left_alone(lived: Workspace, tmp_path: Path) -> None:
    write_files(tmp_path / "photos", {"one.jpg": "x"})
    with pytest.raises(WorkspaceError, match="photos"):
        back_up(lived, tmp_path / "photos")
    with pytest.raises(WorkspaceError, match="kept"):
        back_up(lived, lived.root / "kept")
    with pytest.raises(WorkspaceError, match=r"photos(.|\n)*pal backup"):
        restore(tmp_path / "photos", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * path.stat().st_size)]
)
def test_a_damaged_backup_brings_nothing_back(lived: Workspace, tmp_path: Path, spoil: object) -> None:
    backup, _ = back_up(lived, tmp_path / "kept")
    sha256 = next(iter(backup.data.values())).sha256
    spoil(tmp_path / "kept" / "objects" / sha256[:2] / sha256)  # type: ignore[operator]
    with pytest.raises(WorkspaceError, match=sha256):
        restore(tmp_path / "kept", lived.root, force=True)
    assert files_in(lived.root) == FILES
    assert lived.store().rows("SELECT count(*) FROM lake.items") == [(12_015,)]
