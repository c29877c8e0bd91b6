"""A lake on servers, moved there and asked for by command."""

from __future__ import annotations

import json

import pytest
from servers import Postgres
from test_lake_commands import filled, pal

from flows.cli.lake_commands import switch_lake
from storage.lake.items import count_items
from tasks.project import Project, open_project


def test_a_lake_is_moved_to_servers_and_used_there(filled: Project, cluster: tuple[str, str]) -> None:
    root, (catalog, data) = filled.workspace.root, cluster
    ran = pal("lake", "move", "--catalog", catalog, "--data", data, cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert "tables" in ran.stdout
    assert f'\n[lake]\ncatalog = "{catalog}"\ndata = "{data}"\n' in ran.stdout
    assert open_project(root) == filled
    ran = pal("lake", "move", "--catalog", catalog, "--data", data, "--switch", cwd=root)
    assert "sqlite:lake/catalog.sqlite" in ran.stdout, "where the old one still is"
    assert "[lake]" not in ran.stdout, "it is written already"
    moved = open_project(root)
    assert (moved.workspace.catalog, moved.workspace.data) == cluster
    assert count_items(moved.workspace.store()) == 300
    status = json.loads(pal("status", "--json", cwd=root).stdout)
    assert "300" in json.dumps(status)
    assert "secret-word" not in (root / "pal.toml").read_text(encoding="utf-8")


def test_a_wrong_password_ends_in_a_message_and_not_in_a_traceback(
    project: Project, cluster: tuple[str, str], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_lake(project.workspace.config_file, *cluster)
    monkeypatch.setenv("PGPASSWORD", "not-that-word")
    ran = pal("status", cwd=project.workspace.root)
    assert ran.returncode == 1
    assert all(value in ran.stderr for value in ("PostgreSQL", "PGPASSWORD"))
    assert "Traceback" not in ran.stderr
    assert "not-that-word" not in ran.stderr
