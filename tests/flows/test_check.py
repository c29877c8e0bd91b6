"""Damage is found, named and repaired where it can be; no command goes on with a lake that is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from projects import pal

from annotation.batch import batch_files
from annotation.formats.registry import DEFINITION_NAME
from storage.errors import BatchError, ModelError, PalError, StoreError, WorkspaceError
from storage.files.folders import MANIFEST, inside
from storage.lake.items import count_items
from storage.upkeep.backup import back_up, restore
from storage.upkeep.maintenance import maintain
from tasks.learning.stored_model import read_model
from tasks.predict_file import model_to_predict_with
from tasks.prepare import make_features
from tasks.project import Project, open_project
from tasks.repair import check_project, repair


@pytest.fixture(scope="module")
def kept_once(lively_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = open_project(shutil.copytree(lively_once, tmp_path_factory.mktemp("kept") / "workspace"))
    make_features(project)
    maintain(project.workspace.store())
    project.workspace.close()
    return project.workspace.root


@pytest.fixture
def kept(kept_once: Path, tmp_path: Path) -> Project:
    """The lake's rows in Parquet files, features too; anew opened."""
    return open_project(shutil.copytree(kept_once, tmp_path, dirs_exist_ok=True))


def file_of(project: Project, table: str) -> Path:
    (path,) = (project.workspace.root / "lake" / "data" / "main" / table).glob("*.parquet")
    return path


def spoil(path: Path, at: int = 8, n: int = 40) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + n] = b"\xff" * n
    path.write_bytes(content)


def swap_a_letter(path: Path) -> None:
    """Change a text, so that the file can still be read."""
    content = path.read_bytes()
    assert b"Floods" in content
    path.write_bytes(content.replace(b"Floods", b"Flooks"))


def test_a_whole_workspace_has_no_damage(kept: Project) -> None:
    found = check_project(kept)
    assert found.damaged == []
    assert found.counts.pop("lake files") > 5
    assert found.counts == {"texts": 3, "models": 1, "encoders": 0, "batches": 1}


@pytest.mark.parametrize("damage", [Path.unlink, spoil, swap_a_letter, lambda path: path.write_bytes(b"PAR1")])
def test_a_damaged_file_of_texts_is_named_and_never_backed_up(kept: Project, tmp_path: Path, damage: object) -> None:
    path = file_of(kept, "items")
    damage(path)  # type: ignore[operator]
    found = check_project(kept).damaged
    assert [path.name in each.path for each in found] == [True]
    assert (found[0].repair, "pal restore" in found[0].hint) == ("", True)
    with pytest.raises(StoreError, match="pal check"):
        back_up(kept.workspace, tmp_path.parent / f"{tmp_path.name}-kept")
    if damage not in (spoil, swap_a_letter):
        with pytest.raises(StoreError, match=rf"(?s){path.name}.*pal check"):
            kept.workspace.store().rows("SELECT item_id, text FROM lake.items")


def test_what_follows_from_the_rest_is_made_again(kept: Project) -> None:
    root = kept.workspace.root
    (batch,) = kept.workspace.batches.iterdir()
    filled = (batch / "batch.csv").read_bytes()
    spoil(file_of(kept, "features"))
    (batch / MANIFEST).write_text("[]")
    (batch / DEFINITION_NAME).unlink()
    (root / "runs.sqlite").write_text("garbage")
    before = check_project(kept)
    assert {each.repair for each in before.damaged} == {"batch", "features", "runs"}
    assert len(repair(kept, before)) == 3
    assert check_project(kept).damaged == []
    assert ((batch / "batch.csv").read_bytes(), (batch / DEFINITION_NAME).is_file()) == (filled, True)
    assert kept.workspace.store().rows("SELECT count(*) FROM lake.features") == [(3,)]
    shutil.rmtree(batch)
    repair(kept, check_project(kept))
    assert check_project(kept).damaged == []


def test_a_damaged_manifest_names_its_file_and_leads_to_the_check(kept: Project) -> None:
    (model,) = kept.workspace.models.iterdir()
    (batch,) = kept.workspace.batches.iterdir()
    for value in ("[]", '{"manifest_version": 1}', "[" * 100_000, "\udcff", "{"):
        for folder in (model, batch):
            (folder / MANIFEST).write_bytes(value.encode("utf-8", "surrogateescape"))
        with pytest.raises(ModelError, match=rf"(?s){model.name}/{MANIFEST}.*pal check"):
            read_model(model)
        assert {each.path.split("/")[0] for each in check_project(kept).damaged} == {"models", "batches"}
    for command in (("annotate",), ("predict", "a text"), ("status",)):
        ran = pal(*command, cwd=kept.workspace.root)
        assert "Traceback" not in ran.stderr
        assert "Unexpected" not in ran.stderr
    ran = pal("check", "--json", cwd=kept.workspace.root)
    assert (ran.returncode, len(json.loads(ran.stdout)["damaged"])) == (1, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [("calibration", {"threshold": "x"}), ("labels", "ab"), ("config", {"hidden": "9"}), ("encoder_id", 7)],
)
def test_a_value_of_another_kind_in_a_model_is_damage(kept: Project, key: str, value: object) -> None:
    (model,) = kept.workspace.models.iterdir()
    manifest = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(ModelError, match=model.name):
        read_model(model)
    assert [each.path.startswith("models/") for each in check_project(kept).damaged] == [True]


@pytest.mark.parametrize("lose", ["gone", "empty", "garbage"])
@pytest.mark.parametrize("command", [("status",), ("import", "texts.csv")])
def test_no_new_lake_is_made_where_the_old_one_is_lost(kept: Project, lose: str, command: tuple[str, ...]) -> None:
    root = kept.workspace.root
    (root / "texts.csv").write_text("text\na new text\n")
    catalog = root / "lake" / "catalog.sqlite"
    before = {"gone": None, "empty": b"", "garbage": b"garbage" * 999}[lose]
    catalog.unlink()
    if before is not None:
        catalog.write_bytes(before)
    ran = pal(*command, cwd=root)
    assert ran.returncode == 1
    assert "pal check" in ran.stderr + ran.stdout
    assert (catalog.read_bytes() if catalog.exists() else None) == before


def test_a_lake_with_tables_and_nothing_in_it_is_refused_beside_its_batches(kept: Project, project: Project) -> None:
    catalog = Path("lake") / "catalog.sqlite"
    shutil.copy(project.workspace.root / catalog, kept.workspace.root / catalog)
    with pytest.raises(StoreError, match="pal check"):
        kept.workspace.store()


def test_a_workspace_that_may_not_be_written_can_be_read(kept: Project, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everything; tests/slow/test_trouble.py mounts a read-only disk")
    for path in (kept.workspace.root / "lake", kept.workspace.root):
        path.chmod(0o555)
    try:
        assert count_items(kept.workspace.store()) == 3
        assert model_to_predict_with(kept.workspace.store()).model_id == "m1"
        with pytest.raises(PalError):
            kept.workspace.store().write(lambda connection: None, "no")
    finally:
        for path in (kept.workspace.root / "lake", kept.workspace.root):
            path.chmod(0o755)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".", "link/x", "a\0b", "\ud800"])
def test_a_path_from_a_file_stays_inside(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(WorkspaceError):
        inside(tmp_path / "in", name)
    assert inside(tmp_path / "in", "a/..b.csv") == tmp_path / "in" / "a" / "..b.csv"


@pytest.mark.parametrize("part", ["files", "data", "lake", "handouts"])
def test_neither_a_backup_nor_a_batch_leads_outside(kept: Project, tmp_path: Path, part: str) -> None:
    if part == "handouts":
        (batch,) = kept.workspace.batches.iterdir()
        manifest = json.loads((batch / MANIFEST).read_text())
        manifest["handouts"][0]["file"] = "../../x"
        (batch / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BatchError):
            batch_files(batch)
        return
    kept_in = tmp_path.parent / f"{tmp_path.name}-kept"
    back_up(kept.workspace, kept_in)
    manifest = json.loads((kept_in / MANIFEST).read_text())
    if part == "lake":
        manifest["lake"] = [f"sqlite:{tmp_path}/other.sqlite", f"{tmp_path}/out/"]
    else:
        manifest[part]["../../../out/x"] = manifest["catalog"]
    (kept_in / MANIFEST).write_text(json.dumps(manifest))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WorkspaceError):
        restore(kept_in, tmp_path / "new" / "place")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] in ([], [tmp_path / "new"])
