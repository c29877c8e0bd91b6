"""Fixtures that several rooms' tests use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, settings
from lake_rows import add_rows
from projects import pal_toml

from annotation.label_set import Label, LabelSet
from annotation.synthetic import synthetic_headlines
from storage.lake.annotations import LabelledItem, import_labelled
from storage.lake.batches import Draft, reserve
from storage.lake.schema import migrate
from storage.lake.store import Store
from storage.records import Batch, Proposal, Split
from storage.workspace import Workspace
from tasks.config.template import DISASTER
from tasks.project import Project, open_project

ROOT = Path(__file__).parents[1]
REAL_DATA = ROOT.parent / "shared" / "data" / "abc-headlines"

# No claim depends on how fast a machine is, or how busy.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("any machine"), max_examples=10_000)  # make fuzz
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def quick_duckdb() -> Iterator[None]:
    """DuckDB takes one thread in each process that runs tests, and orders no joins by statistics: both double its time
    where tables are small. Commands that run as processes of their own have DuckDB as it is."""
    connect = duckdb.connect
    quick = {"threads": 1, "disabled_optimizers": "join_order,statistics_propagation"}

    def connected(*arguments: Any, config: Mapping[str, Any] | None = None, **more: Any) -> duckdb.DuckDBPyConnection:
        return connect(*arguments, config={**quick, **(config or {})}, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duckdb, "connect", connected)
        yield


@pytest.fixture(autouse=True)
def quick_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file dropped into an inbox is watched for a moment only."""
    monkeypatch.setattr("annotation.inbox.SETTLE_S", 0.01)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The original's layout with real headlines, where it lies beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real headlines are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def all_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear models on vectors read characters, too, whatever the labeled items would choose."""
    mix = {"vectors": 0.4, "words": 0.3, "characters": 0.3}
    monkeypatch.setattr("tasks.learning.family_training.choose_mix", lambda *_: mix)


@pytest.fixture(scope="session")
def empty_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with its folders and an empty lake. Tests take a copy: to make a lake takes five times as long."""
    made = Workspace(tmp_path_factory.mktemp("empty") / "workspace")
    made.make()
    with Store(*made.lake) as store:
        migrate(store, made.runs())
    return made.root


@pytest.fixture
def workspace(empty_workspace: Path, tmp_path: Path) -> Workspace:
    """An empty workspace with its folders and its lake."""
    return Workspace(shutil.copytree(empty_workspace, tmp_path / "workspace"))


@pytest.fixture(scope="module")
def shared_workspace(empty_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for all tests of a file: they only read what a fixture put there, or bear what the others did."""
    return Workspace(shutil.copytree(empty_workspace, tmp_path_factory.mktemp("shared") / "workspace"))


@pytest.fixture
def project(empty_workspace: Path, tmp_path: Path) -> Project:
    """A disaster-headlines workspace with small minimums: 60 evaluation, 30 training items."""
    return project_in(shutil.copytree(empty_workspace, tmp_path / "project"))


@pytest.fixture(scope="module")
def shared_project(shared_workspace: Workspace) -> Project:
    """Such a project for all tests of a file, or to be copied once it is prepared."""
    return project_in(shared_workspace.root)


def project_in(root: Path) -> Project:
    (root / "pal.toml").write_text(pal_toml(60, 0, 30), encoding="utf-8")
    return open_project(root)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Project], Project]:
    """Copies a project, so that a test may change it."""

    def copy(project: Project) -> Project:
        project.workspace.close()
        return open_project(shutil.copytree(project.workspace.root, tmp_path / "copied"))

    return copy


@pytest.fixture(scope="session")
def label_set() -> LabelSet:
    """Disaster-related or not, keys 1 and 0."""
    return DISASTER


@pytest.fixture
def three_labels() -> LabelSet:
    """Three labels, none positive, keys 1 to 3."""
    labels = (Label("sport", "1"), Label("politics", "2"), Label("weather", "3"))
    return LabelSet("topics", "Which topic?", "The main topic.", labels)


@pytest.fixture(scope="session")
def reserve_batch() -> Callable[..., Batch]:
    """Takes texts (item_id -> text) into a workspace's lake, and reserves a batch of them in that order."""

    def reserved(workspace: Workspace, texts: dict[str, str], purpose: Split = Split.TRAINING) -> Batch:
        store, ids = workspace.store(), list(texts)
        add_rows(store, list(texts.items()), "test")
        proposals = [Proposal(item_id, "random", None, rank) for rank, item_id in enumerate(ids, start=1)]
        proposals.append(Proposal(ids[0], "entropy", 0.25, 1))
        draft = Draft(purpose, ids, proposals, 7, store.version(), DISASTER.digest, mix={"random": len(ids)})
        return reserve(store, draft, beside_open=True)[0]

    return reserved


@pytest.fixture(scope="session")
def take_headlines() -> Callable[..., dict[str, str]]:
    """Takes made-up headlines number `start` to `stop` into a workspace's lake; returns item_id -> true label."""

    def take(workspace: Workspace, stop: int, start: int = 0) -> dict[str, str]:
        rows = synthetic_headlines(stop).slice(start).to_pylist()
        add_rows(workspace.store(), [(row["item_id"], row["text"]) for row in rows], "test")
        return {row["item_id"]: row["label"] for row in rows}

    return take


@pytest.fixture(scope="session")
def give_labels() -> Callable[..., None]:
    """Labels items (item_id -> label) of a workspace's lake for a split."""

    def give(workspace: Workspace, labels: Mapping[str, str], split: Split = Split.TRAINING) -> None:
        labelled = [LabelledItem(item_id, label, "random", None) for item_id, label in labels.items()]
        import_labelled(workspace.store(), f"given-{split.value}", split, labelled, DISASTER.digest, "test")

    return give
