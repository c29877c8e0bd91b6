"""A workspace made by pal 0.1.0 (schema 4, runs in the lake) migrates with nothing lost, once, with a backup before.

`workspace-0.1.0.tar.gz` was made by that program: `workspace/` (texts imported, three batches, the last of them out and
filled in part, a model, `pal maintain`, a nightly run that was killed) and `backup/` of it (`pal backup`).
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from projects import pal

from annotation.inbox import waiting_answers
from annotation.label_set import LabelSet
from storage.errors import StoreError
from storage.lake import schema
from storage.lake.annotations import ingest, labelled_texts
from storage.lake.batches import open_batches
from storage.lake.models import production_model
from storage.lake.schema import MIGRATIONS, RUNS_IN_LAKE, current_version, workspace_id
from storage.lake.store import Store
from storage.records import RunRecord, RunStatus, Split
from storage.run_records import RUNS_FILE
from storage.upkeep.backup import restore
from storage.upkeep.upgrade import plan_upgrade, upgrade
from storage.workspace import Workspace
from tasks.learning.model_files import load_model
from tasks.learning.stored_model import numpy_model

ARCHIVE = Path(__file__).with_name("workspace-0.1.0.tar.gz")
COUNTS = {"items": 203, "features": 203, "annotations": 60, "batches": 3, "batch_items": 92}
COUNTS |= {"models": 1, "metrics": 7, "decisions": 1, "read_files": 2}
N_RUNS, VERSION = 6, 52
N = len(MIGRATIONS)
COPY = f"catalog.before-schema-{N}.sqlite"
NEW_COLUMNS = {"context", "ingestion", "codebook", "reserve_below", "split"}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The archive's two folders."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def old(unpacked: Path) -> Workspace:
    """The old workspace, not migrated."""
    return Workspace(unpacked / "workspace")


def counts(store: Store) -> dict[str, int]:
    return {name: store.rows(f"SELECT count(*) FROM lake.{name}")[0][0] for name in COUNTS}


def contents(store: Store, version: int | None = None) -> dict[str, Any]:
    at = f"AT (VERSION => {version})" if version else ""
    found = {}
    for name in COUNTS:
        columns = [row[0] for row in store.rows(f"DESCRIBE lake.{name}") if row[0] not in NEW_COLUMNS - {"split"}]
        columns = [each for each in columns if (name, each) not in (("batch_items", "split"), ("read_files", "n"))]
        row = f"row({', '.join(columns)})::VARCHAR"
        found[name] = store.rows(f"SELECT count(*), sum(hash({row})::HUGEINT)::VARCHAR FROM lake.{name} {at}")
    return found


def before(workspace: Workspace) -> tuple[dict[str, Any], list[RunRecord]]:
    """What the old lake holds, and its runs."""
    with workspace.unmigrated_store() as store:
        assert (current_version(store), counts(store)) == (4, COUNTS)
        return contents(store), store.records(RunRecord, RUNS_IN_LAKE)


def names_of_tables(store: Store) -> set[str]:
    return {name for (name,) in store.rows("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'")}


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_an_old_workspace_migrates_by_itself_has_everything_and_goes_on(old: Workspace, label_set: LabelSet) -> None:
    wanted, runs = before(old)
    assert len(runs) == N_RUNS
    assert {run.flow for run in runs} == {"next-batch", "ingest", "nightly"}
    store = old.store()
    assert current_version(store) == len(MIGRATIONS)
    assert counts(store) == COUNTS
    assert contents(store) == contents(store, VERSION) == wanted
    assert old.runs().all() == runs
    (killed,) = old.runs().recent(9, status=RunStatus.RUNNING)
    assert (killed.flow, killed.stage, list(killed.stages)) == ("nightly", "train", ["ingest"])
    assert "runs" not in names_of_tables(store)
    assert store.rows(f"SELECT count(*) FROM lake.runs AT (VERSION => {VERSION})") == [(N_RUNS,)]
    ids = store.rows("SELECT source_id, source_row FROM lake.item_ids SEMI JOIN lake.items USING (item_id, source)")
    assert ids == [(None, None)] * COUNTS["items"]
    ingestions = [n for (n,) in store.rows("SELECT DISTINCT ingestion FROM lake.annotations ORDER BY ingested_at")]
    assert ingestions == sorted(ingestions) == list(range(1, len(ingestions) + 1))
    assert {progress.batch.codebook for progress in open_batches(store)} == {1}
    assert len(workspace_id(store)) == 36
    assert store.rows("SELECT DISTINCT context FROM lake.items") == [(None,)]
    batch_id = open_batches(store)[0].batch.batch_id
    answers = waiting_answers(old, batch_id, label_set)
    assert ingest(store, batch_id, answers, "batch.csv").n_new == len(answers) == 10


def test_the_old_model_and_its_training_set_are_found(old: Workspace, label_set: LabelSet) -> None:
    with old.unmigrated_store() as store:
        model = production_model(store)
        wanted = store.rows(
            f"""SELECT item_id, text, answer FROM lake.annotations a AT (VERSION => {model.lake_version})
            JOIN lake.batches USING (batch_id) JOIN lake.items USING (item_id) WHERE purpose = 'training' ORDER BY 1"""
        )
    assert len(wanted) == model.n_training == 30
    store = old.store()
    assert production_model(store) == model
    for version in (model.lake_version, store.version()):
        found = labelled_texts(store, Split.TRAINING, version).to_pylist()
        assert [tuple(row.values()) for row in found] == wanted
    folder, texts = old.model_folder(model.model_id), ["floods cut off town", "council approves library"]
    loaded = load_model(folder, label_set.names)
    assert loaded.classifier.linear
    for now in (loaded, numpy_model(folder)):
        assert now.predict(texts)[:, 0].tolist() == pytest.approx([0.45138, 0.43974], abs=1e-5), "as 0.1.0 predicts"


def test_before_that_the_catalog_is_copied_and_the_copy_is_a_lake(
    old: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, runs = before(old)
    with caplog.at_level("INFO"):
        old.store()
    copy = old.root / "lake" / COPY
    assert sum(str(copy) in record.message for record in caplog.records) == 1
    assert [path.name for path in copy.parent.glob(".*")] == []
    assert before(Workspace(old.root, f"sqlite:lake/{COPY}")) == (wanted, runs)
    old.close()
    old.store()
    assert before(Workspace(old.root, f"sqlite:lake/{COPY}")) == (wanted, runs)


def test_a_dry_run_says_what_would_be_done_and_changes_no_byte(old: Workspace) -> None:
    unchanged = digests(old.root)
    ran = pal("migrate", "--dry-run", cwd=old.root)
    assert ran.returncode == 0, ran.stderr
    assert re.search(rf"\b4\b.*\b{N}\b", ran.stdout), "the schemas"
    assert str(old.root / "lake" / COPY) in ran.stdout
    said = json.loads(pal("migrate", "--dry-run", "--json", cwd=old.root).stdout)
    assert (said["dry_run"], said["from"], said["to"], said["runs"], len(said["steps"])) == (True, 4, N, N_RUNS, N - 4)
    assert plan_upgrade(old).version == 4
    assert digests(old.root) == unchanged


def test_the_command_migrates_once(old: Workspace) -> None:
    done = json.loads(pal("migrate", "--json", cwd=old.root).stdout)
    assert (done["dry_run"], done["from"], done["runs"]) == (False, 4, N_RUNS)
    assert Path(done["backup"]).is_file()
    for arguments in (["migrate"], ["migrate", "--dry-run"]):
        again = pal(*arguments, cwd=old.root)
        assert again.returncode == 0, again.stderr
        assert str(N) in again.stdout, "the schema"
        assert "catalog.before-schema" not in again.stdout, "nothing is copied"
    assert len(old.runs().all()) == N_RUNS


def test_a_new_workspace_is_up_to_date(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "new")
    assert plan_upgrade(workspace).steps == ()
    assert not list(workspace.root.glob("lake/*")), "a dry run makes no lake"
    assert plan_upgrade(workspace).steps == upgrade(workspace).steps == ()
    assert plan_upgrade(workspace).version == len(MIGRATIONS)


def test_a_workspace_of_a_newer_program_is_refused_with_both_versions(workspace: Workspace) -> None:
    store = workspace.store()
    newer = "INSERT INTO lake.schema_versions VALUES (99, now()::TIMESTAMP)"
    store.write(lambda connection: connection.execute(newer), "newer")
    for call in (plan_upgrade, upgrade, lambda workspace: schema.migrate(store, workspace.runs())):
        with pytest.raises(StoreError) as caught:
            call(workspace)
        assert all(version in caught.value.what for version in ("99", str(len(MIGRATIONS))))
        assert "pip install --upgrade" in caught.value.hint


def test_without_a_place_for_the_copy_nothing_is_migrated(old: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = before(old)
    monkeypatch.setattr("storage.lake.schema.catalog_copy_path", lambda _: old.root / "no folder" / COPY)
    with pytest.raises(StoreError, match=COPY):
        old.store()
    assert before(old) == wanted


def test_two_runs_with_the_same_id_in_the_old_lake_are_both_kept(old: Workspace) -> None:
    with old.unmigrated_store() as store:
        double = "INSERT INTO lake.runs SELECT * REPLACE ('again' AS message) FROM lake.runs WHERE flow = 'nightly'"
        store.write(lambda connection: connection.execute(double), "twice")
    old.store()
    ids = [run.run_id for run in old.runs().all()]
    assert len(set(ids)) == len(ids) == N_RUNS + 1


def test_an_old_backup_is_restored_and_migrates(unpacked: Path) -> None:
    backup, _ = restore(unpacked / "backup", unpacked / "again")
    assert backup.lake_version == VERSION
    again = Workspace(unpacked / "again")
    _, runs = before(again)
    assert not (again.root / RUNS_FILE).exists()
    assert counts(again.store()) == COUNTS
    assert again.runs().all() == runs
    assert len(runs) == N_RUNS
