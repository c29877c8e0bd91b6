"""The migration of an old workspace, killed with -9 at lines spread over it; and that of a lake on servers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kill_at_line import killed_at, lines_of
from test_upgrade import COPY, before, contents, old, unpacked

from storage.errors import StoreError
from storage.lake.schema import MIGRATIONS, current_version
from storage.upkeep.backup import restore
from storage.upkeep.moving import move_lake
from storage.upkeep.upgrade import plan_upgrade, upgrade
from storage.workspace import Workspace


def migrate_there(root: Path) -> None:
    Workspace(root).store()


def test_after_kill_9_at_any_line_the_next_call_finishes_and_nothing_moves_twice(
    old: Workspace, tmp_path: Path
) -> None:
    wanted, runs = before(old)
    roots = [Path(shutil.copytree(old.root, tmp_path / f"killed-{k}")) for k in range(7)]
    lines = lines_of(migrate_there, old.root)
    for root, share in zip(roots, (30, 50, 60, 70, 80, 90, 97), strict=True):
        killed_at(share * lines // 100, migrate_there, root)
        workspace = Workspace(root)
        store = workspace.store()
        assert current_version(store) == len(MIGRATIONS)
        versions = store.rows("SELECT version FROM lake.schema_versions ORDER BY version")
        assert versions == [(k + 1,) for k in range(len(MIGRATIONS))]
        assert contents(store) == wanted
        assert workspace.runs().all() == runs
        assert before(Workspace(root, f"sqlite:lake/{COPY}")) == (wanted, runs)


@pytest.fixture
def shared(old: Workspace, cluster: tuple[str, str]) -> Workspace:
    """The old workspace, its lake moved to servers as the old program left it."""
    moved = Workspace(old.root, *cluster)
    with old.unmigrated_store() as store:
        move_lake(store, *moved.lake, old.root)
    with moved.unmigrated_store() as store:
        assert current_version(store) == 4
    return moved


def test_a_lake_that_machines_share_is_not_migrated_by_other_commands(shared: Workspace) -> None:
    for call in (shared.store, shared.runs):
        with pytest.raises(StoreError) as caught:
            call()
        assert "pal migrate --dry-run" in caught.value.hint
    with shared.unmigrated_store() as store:
        assert current_version(store) == 4


def test_a_lake_that_machines_share_is_migrated_by_the_command_after_a_whole_backup(
    shared: Workspace, tmp_path: Path
) -> None:
    wanted, runs = before(shared)
    plan = plan_upgrade(shared)
    assert plan.backup == shared.root / "backups" / f"before-schema-{len(MIGRATIONS)}"
    assert not plan.backup.exists()
    assert upgrade(shared) == plan
    assert contents(shared.store()) == wanted
    assert shared.runs().all() == runs == list(plan.runs)
    other = Workspace(tmp_path / "other", shared.catalog, shared.data)
    assert other.runs().all() == runs
    shared.close()
    _, aside = restore(plan.backup, shared.root, force=True)
    assert aside is not None
    assert before(shared) == (wanted, runs)
    assert upgrade(shared).runs == tuple(runs)
    assert shared.runs().all() == runs
