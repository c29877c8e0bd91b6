"""The commands that move, keep and tidy the lake, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from projects import pal, pal_toml

from flows.cli.lake_commands import switch_lake
from flows.server.processes import held
from storage.lake.items import count_items
from storage.records import RunRecord, RunStatus
from storage.workspace import Workspace
from tasks.config.load import read_config
from tasks.config.settings import LakeConfig
from tasks.project import Project, open_project


@pytest.fixture
def filled(project: Project, take_headlines: Callable[[Workspace, int], dict[str, str]]) -> Project:
    take_headlines(project.workspace, 300)
    return project


def test_a_password_on_the_command_line_is_refused_and_not_repeated(filled: Project) -> None:
    root = filled.workspace.root
    ran = pal("lake", "move", "--catalog", "postgres:host=x password=secret-word", "--data", "s3://b/c", cwd=root)
    assert ran.returncode == 1
    assert all(value in ran.stderr for value in ("catalog", "PGPASSWORD", "~/.pgpass"))
    assert "secret-word" not in ran.stderr + ran.stdout


def test_a_backup_is_made_and_brought_back(filled: Project, tmp_path: Path) -> None:
    root = filled.workspace.root
    made = pal("backup", str(tmp_path / "kept"), cwd=root)
    assert made.returncode == 0, made.stderr
    assert str(tmp_path / "kept") in made.stdout
    back = pal("restore", str(tmp_path / "kept"), str(tmp_path / "again"), cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    assert count_items(open_project(tmp_path / "again").workspace.store()) == 300
    refused = pal("restore", str(tmp_path / "kept"), str(tmp_path / "again"), cwd=tmp_path)
    assert refused.returncode == 1
    assert str(tmp_path / "again") in refused.stderr
    forced = pal("restore", str(tmp_path / "kept"), str(tmp_path / "again"), "--force", cwd=tmp_path)
    (aside,) = (path for path in tmp_path.glob("again*") if path.name != "again")
    assert str(aside) in forced.stdout, "where the earlier one is now"


def test_maintaining_says_what_it_did(filled: Project) -> None:
    ran = pal("maintain", "--json", cwd=filled.workspace.root)
    assert ran.returncode == 0, ran.stderr
    done = json.loads(ran.stdout)
    assert done["flushed_rows"] >= 300
    assert done["n_files"][1] > 0


def test_nothing_is_tidied_or_moved_while_a_flow_runs(filled: Project, tmp_path: Path) -> None:
    run = RunRecord("nightly-1", "nightly", RunStatus.RUNNING, "another-host", 4711, datetime.now(UTC))
    filled.workspace.runs().put(run)
    root = filled.workspace.root
    for command in (["maintain"], ["lake", "move", "--catalog", "sqlite:x/c.sqlite", "--data", "x/data"]):
        ran = pal(*command, cwd=root)
        assert ran.returncode == 1
        assert all(value in ran.stderr for value in ("nightly", "4711", "another-host"))
    assert not (root / "x").exists()


def test_a_lake_is_not_moved_while_pal_is_up(filled: Project) -> None:
    with held(filled):
        arguments = ["lake", "move", "--catalog", "sqlite:x/c.sqlite", "--data", "x/data"]
        ran = pal(*arguments, cwd=filled.workspace.root)
    assert ran.returncode == 1
    assert all(command in ran.stderr for command in ("pal lake move", "pal down"))


# pal.toml


@pytest.fixture
def pal_toml_file(tmp_path: Path) -> Path:
    (tmp_path / "pal.toml").write_text(pal_toml(), encoding="utf-8")
    return tmp_path / "pal.toml"


@pytest.mark.parametrize("lake", ["", "[lake]\ncatalog = 'sqlite:a' # old\ndata = 'b'\n", "[lake]\n# nothing yet\n"])
@pytest.mark.parametrize("after", ["", "\n[batch]\nsize = 7   # few\n"])
def test_only_the_lakes_lines_of_pal_toml_change(pal_toml_file: Path, lake: str, after: str) -> None:
    path = pal_toml_file
    task = path.read_text(encoding="utf-8").split("[minimums]")[0]
    path.write_text(task + lake + after, encoding="utf-8")
    before = read_config(path)
    switch_lake(path, 'postgres:host=db dbname="p"', "s3://b/c")
    config = read_config(path)
    assert (config.lake.catalog, config.lake.data) == ('postgres:host=db dbname="p"', "s3://b/c")
    assert (config.batch, config.task) == (before.batch, before.task)
    assert path.read_text(encoding="utf-8").startswith(task)
    assert ("# few" in path.read_text(encoding="utf-8")) == bool(after)


def test_a_lake_that_is_written_in_dotted_keys_is_changed_too(pal_toml_file: Path) -> None:
    path = pal_toml_file
    text = 'lake.catalog = "sqlite:x"\n' + path.read_text(encoding="utf-8").split("[lake]")[0]
    path.write_text(text, encoding="utf-8")
    switch_lake(path, "postgres:host=x", "s3://b/c")
    assert read_config(path).lake == LakeConfig(catalog="postgres:host=x", data="s3://b/c")
    assert path.read_text(encoding="utf-8").endswith(text.partition("\n")[2])


@pytest.mark.parametrize("catalog", ["postgres:service=pal", "postgres:postgresql://me@db:5432/x", "postgres:dbname=x"])
def test_catalogs_without_a_secret_are_fine(pal_toml_file: Path, catalog: str) -> None:
    path = pal_toml_file
    before = path.read_text(encoding="utf-8")
    switch_lake(path, catalog, "s3://b")
    assert read_config(path).lake.catalog == catalog
    changed = before.replace("sqlite:lake/catalog.sqlite", catalog).replace('"lake/data"', '"s3://b"')
    assert path.read_text(encoding="utf-8") == changed
