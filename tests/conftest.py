"""Fixtures that several rooms' tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotation.label_set import Label, LabelSet
from flows.presets import DISASTER
from storage.workspace import Workspace

ROOT = Path(__file__).parents[1]
REAL_DATA = ROOT.parent / "shared" / "data" / "abc-headlines"


@pytest.fixture
def real_data() -> Path:
    """The original's layout with real headlines, where it lies beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real headlines are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace with its folders and its lake."""
    made = Workspace(tmp_path / "workspace")
    made.make()
    return made


@pytest.fixture
def label_set() -> LabelSet:
    """Disaster-related or not, keys 1 and 0."""
    return DISASTER


@pytest.fixture
def three_labels() -> LabelSet:
    """Three labels, none positive, keys 1 to 3."""
    labels = (Label("sport", "1"), Label("politics", "2"), Label("weather", "3"))
    return LabelSet("topics", "Which topic?", "The main topic.", labels)
