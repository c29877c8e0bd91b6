"""Backups of what lies on PostgreSQL and S3."""

from __future__ import annotations

from pathlib import Path

from lake_histories import live
from machines import texts, write
from test_backup import FILES, RUNS, at, files_in, write_files

from storage.lake.store import Store
from storage.run_records import new_run
from storage.upkeep.backup import back_up, restore
from storage.workspace import Workspace


def test_a_backup_holds_what_other_machines_share(workspace: Workspace, shared_root: str, tmp_path: Path) -> None:
    here, other = (Workspace(root, files=shared_root) for root in (workspace.root, tmp_path / "other"))
    for name in ("models/m1", "encoders/e1"):
        write(other.root / name, {"weights": name})
        other.share(other.root / name)
    write_files(here.root, FILES)
    back_up(here, tmp_path / "kept")
    restore(tmp_path / "kept", tmp_path / "again")
    assert files_in(tmp_path / "again") == FILES
    for name in ("models/m1", "encoders/e1"):
        assert texts(tmp_path / "again" / name) == {"weights": name}


def test_a_backup_of_a_lake_on_servers_names_no_secret(cluster: tuple[str, str], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace", *cluster)
    workspace.make()
    write_files(workspace.root, FILES)
    live(workspace.store())
    back_up(workspace, tmp_path / "kept")
    for path in (tmp_path / "kept").rglob("*"):
        assert path.is_dir() or b"secret-word" not in path.read_bytes()
    with Store(f"sqlite:{tmp_path}/alone.sqlite", f"{tmp_path}/data/") as other:
        assert other.version() == 0


def test_a_backup_put_beside_the_same_lake_on_servers_keeps_the_runs_since(
    cluster: tuple[str, str], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "workspace", *cluster)
    workspace.make()
    workspace.runs().put(*RUNS)
    back_up(workspace, tmp_path / "kept")
    later = new_run("nightly")
    workspace.runs().put(later)
    restore(tmp_path / "kept", tmp_path / "again")
    assert workspace.runs().all() == at(tmp_path / "again", workspace).runs().all() == [*RUNS, later]
