"""The workspace: found from anywhere in it, and whole after it moved."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from lake_rows import add_rows

from storage.errors import WorkspaceError
from storage.lake.items import count_items
from storage.lake.schema import MIGRATIONS, current_version
from storage.workspace import CONFIG_NAME, ENVIRONMENT, FOLDERS, Workspace, find_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a pal.toml; the current directory and the environment are elsewhere."""
    root = (tmp_path / "project").resolve()
    (root / "deep" / "down").mkdir(parents=True)
    (root / CONFIG_NAME).touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    return root


def test_making_a_workspace_twice_keeps_what_is_in_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "new" / "workspace")
    workspace.make()
    (workspace.inbox / "a.csv").touch()
    workspace.make()
    assert sorted(path.name for path in workspace.root.iterdir()) == sorted(FOLDERS)
    assert (workspace.inbox / "a.csv").exists()
    named = (workspace.batches, workspace.inbox, workspace.models, workspace.encoders, workspace.reports)
    assert [path.name for path in named] == ["batches", "inbox", "models", "encoders", "reports"]
    assert workspace.config_file == workspace.root / "pal.toml"


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "inbox").write_text("x", encoding="utf-8")
    with pytest.raises(WorkspaceError):
        Workspace(tmp_path).make()


def test_the_lake_has_its_tables_and_is_opened_once(workspace: Workspace) -> None:
    store = workspace.store()
    assert current_version(store) == len(MIGRATIONS)
    assert workspace.store() is store
    assert (workspace.root / "lake" / "catalog.sqlite").is_file()


def test_a_workspace_that_moved_has_all_its_texts_and_takes_more(tmp_path: Path) -> None:
    old, new = Workspace(tmp_path / "old"), Workspace(tmp_path / "it's [1] new ü")
    old.make()
    add_rows(old.store(), [("small", "inlined")])
    add_rows(old.store(), [(f"i{k}", f"text {k}") for k in range(12_000)])
    assert list(old.root.rglob("*.parquet"))
    old.store().close()
    old.root.rename(new.root)
    assert count_items(new.store()) == 12_001
    assert add_rows(new.store(), [("more", "more"), ("again", "TEXT 7")]).n_new == 1
    assert not old.root.exists()


def test_the_lake_may_lie_elsewhere(tmp_path: Path) -> None:
    catalog, data = tmp_path / "disk" / "c.sqlite", tmp_path / "disk" / "data"
    catalog.parent.mkdir()
    workspace = Workspace(tmp_path / "w", f"sqlite:{catalog}", str(data))
    workspace.make()
    add_rows(workspace.store(), [(f"i{k}", f"text {k}") for k in range(12_000)])
    assert catalog.is_file()
    assert list(data.rglob("*.parquet"))
    assert not (workspace.root / "lake" / "data").exists()


def test_paths_are_written_from_the_root_with_forward_slashes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.name_of(workspace.root / "batches" / "b1" / "batch.csv") == "batches/b1/batch.csv"
    monkeypatch.chdir(workspace.root / "inbox")
    assert workspace.name_of(Path("../inbox/./a.csv")) == "inbox/a.csv"


def test_scratch_is_in_the_workspace_and_gone_afterwards_also_after_an_error(workspace: Workspace) -> None:
    def half() -> None:
        with workspace.scratch() as folder, workspace.scratch() as other:
            assert folder != other
            assert folder.is_relative_to(workspace.root)
            (folder / "half").touch()
            raise ValueError("no")

    before = sorted(workspace.root.rglob("*"))
    with pytest.raises(ValueError, match="no"):
        half()
    assert sorted(workspace.root.rglob("*")) == before


def test_a_workspace_is_found_from_any_folder_in_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (root, root / "deep" / "down"):
        monkeypatch.chdir(folder)
        assert find_root() == root


def test_the_nearest_workspace_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "deep" / CONFIG_NAME).touch()
    monkeypatch.chdir(root / "deep" / "down")
    assert find_root() == root / "deep"


def test_what_is_named_goes_before_the_environment_and_that_before_the_current_directory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("named", "environment"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG_NAME).touch()
    monkeypatch.chdir(root)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "environment"))
    assert find_root() == (tmp_path / "environment").resolve()
    assert find_root(Path("../named")) == (tmp_path / "named").resolve()


def test_a_named_directory_that_is_no_workspace_is_refused_even_inside_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = root / "deep"
    with pytest.raises(WorkspaceError) as caught:
        find_root(deep)
    assert all(value in caught.value.what for value in (str(deep), "pal.toml"))
    assert f"pal init {deep}" in caught.value.hint
    monkeypatch.setenv(ENVIRONMENT, str(deep))
    with pytest.raises(WorkspaceError, match=re.escape(str(deep))):
        find_root()


def test_where_there_is_no_workspace_all_ways_to_one_are_told(root: Path) -> None:
    with pytest.raises(WorkspaceError) as caught:
        find_root()
    assert all(value in caught.value.what for value in ("pal.toml", str(Path.cwd().resolve())))
    for way in ("pal init DIR", "pal --workspace DIR", "PAL_WORKSPACE=DIR"):
        assert way in caught.value.hint


def test_what_a_killed_process_left_in_scratch_is_removed_after_a_day(workspace: Workspace) -> None:
    old, new = (workspace.root / "lake" / name for name in ("scratch-old", "scratch-new"))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    with workspace.scratch() as folder:
        assert folder.is_dir()
    assert (old.exists(), new.exists(), folder.exists()) == (False, True, False)
