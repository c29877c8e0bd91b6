"""A workspace as most flows want it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config import open_project
from flows.presets import DISASTER, config_text
from tasks.plan import Minimums
from tasks.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A disaster-headlines workspace with small minimums: 60 evaluation, 30 training items."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pal.toml").write_text(config_text(DISASTER, Minimums(60, 0, 30)), encoding="utf-8")
    return open_project(root)
