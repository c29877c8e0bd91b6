"""The demo's workspace, which never costs anybody a file, and its table."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from flows.cli import demo
from flows.cli.demo import Iteration, make_workspace, table_text
from storage.errors import WorkspaceError
from tasks.config.template import PRESETS


@pytest.fixture(autouse=True)
def few_headlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "N_HEADLINES", 300)


def test_a_demo_has_the_presets_numbers_and_a_file_of_headlines_with_ids(tmp_path: Path) -> None:
    project = make_workspace(tmp_path / "deep" / "demo", fresh=False)
    assert project.config.minimums == PRESETS["demo"].minimums
    with (project.workspace.root / "headlines.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "headline"]
    assert len({item_id for item_id, _ in rows}) == len(rows) == 300
    assert all(text.strip() for _, text in rows)


def test_an_empty_directory_is_taken_and_one_with_anything_in_it_never(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_workspace(tmp_path / "empty", fresh=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years", encoding="utf-8")
    for fresh in (False, True):
        with pytest.raises(WorkspaceError, match=re.escape(str(tmp_path / "mine"))):
            make_workspace(tmp_path / "mine", fresh=fresh)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_earlier_demo_is_replaced_only_where_that_was_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    make_workspace(root, fresh=False)
    (root / "old").write_text("x", encoding="utf-8")
    with pytest.raises(WorkspaceError) as raised:
        make_workspace(root, fresh=False)
    assert "--fresh" in raised.value.hint
    assert (root / "old").exists()
    make_workspace(root, fresh=True)
    assert not (root / "old").exists()
    assert (root / "headlines.csv").is_file()


def test_the_table_has_a_row_an_iteration_and_a_dash_for_what_is_undefined() -> None:
    rows = [Iteration(100, 50, 40, 100, 0.5, 0.75, 0.625), Iteration(1200, 1000, 7, 50, None, 0.9, None)]
    assert table_text(rows).splitlines()[1:] == [
        "        1       100          50  0.500  0.750  0.625    40 of 100",
        "        2     1,200       1,000    -    0.900    -       7 of 50",
    ]
