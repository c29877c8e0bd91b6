"""Fixtures that several rooms' tests use."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from servers import S3, Postgres, postgres_server, s3_server

from annotation.headlines import synthetic_headlines
from annotation.label_set import Label, LabelSet
from flows.presets import DISASTER
from storage.annotations import LabelledItem, import_labelled
from storage.batches import Draft, reserve
from storage.items import add_items, stage
from storage.records import Batch, Proposal, Split
from storage.workspace import Workspace

ROOT = Path(__file__).parents[1]
REAL_DATA = ROOT.parent / "shared" / "data" / "abc-headlines"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a server and a worker of their own take minutes: they go first, beside all others."""
    slow = {item.path for item in items if {"live", "up"} & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def quick_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file dropped into an inbox is watched for a moment only."""
    monkeypatch.setattr("annotation.inbox.SETTLE_S", 0.01)


@pytest.fixture
def real_data() -> Path:
    """The original's layout with real headlines, where it lies beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real headlines are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; make a database of your own in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server; take a folder of your own in its bucket."""
    with s3_server() as server:
        yield server


@pytest.fixture
def shared_root(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of one's own on the S3 server, as in `[files] root`; where it is and who asks is in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"{s3.root}/{uuid.uuid4().hex}"


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """`[lake]` catalog and data of a lake that is not there yet, on servers; secrets are in the environment."""
    server, storage = request.getfixturevalue("postgres"), request.getfixturevalue("s3")
    for name, value in {**storage.environment, "PGPASSWORD": "secret-word"}.items():
        monkeypatch.setenv(name, value)
    name = f"lake_{uuid.uuid4().hex}"
    server.create(name)
    return server.catalog(name), f"{storage.root}/{name}"


@pytest.fixture
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """An empty workspace with its folders and its lake; with the parameter `cluster` that is on servers."""
    lake = request.getfixturevalue("cluster") if getattr(request, "param", "") == "cluster" else ()
    made = Workspace(tmp_path / "workspace", *lake)
    made.make()
    return made


@pytest.fixture(scope="session")
def label_set() -> LabelSet:
    """Disaster-related or not, keys 1 and 0."""
    return DISASTER


@pytest.fixture
def three_labels() -> LabelSet:
    """Three labels, none positive, keys 1 to 3."""
    labels = (Label("sport", "1"), Label("politics", "2"), Label("weather", "3"))
    return LabelSet("topics", "Which topic?", "The main topic.", labels)


@pytest.fixture
def reserve_batch() -> Callable[..., Batch]:
    """Takes texts (item_id -> text) into a workspace's lake, and reserves a batch of them in that order."""

    def reserved(workspace: Workspace, texts: dict[str, str], purpose: Split = Split.TRAINING) -> Batch:
        store, ids = workspace.store(), list(texts)
        table = pa.table(
            {
                "row": pa.array(range(len(ids)), pa.int64()),
                "item_id": pa.array(ids, pa.string()),
                "text": pa.array(texts.values(), pa.string()),
                "published_at": pa.nulls(len(ids), pa.timestamp("us")),
            }
        )
        with workspace.scratch() as folder:
            stage([table], folder / "staged.parquet")
            add_items(store, folder / "staged.parquet", "test")
        proposals = [Proposal(item_id, "random", None, rank) for rank, item_id in enumerate(ids, start=1)]
        proposals.append(Proposal(ids[0], "entropy", 0.25, 1))
        draft = Draft(purpose, ids, proposals, 7, store.version(), DISASTER.digest, mix={"random": len(ids)})
        return reserve(store, draft, beside_open=True)[0]

    return reserved


@pytest.fixture(scope="session")
def take_headlines() -> Callable[..., dict[str, str]]:
    """Takes made-up headlines number `start` to `stop` into a workspace's lake; returns item_id -> true label."""

    def take(workspace: Workspace, stop: int, start: int = 0) -> dict[str, str]:
        table = synthetic_headlines(stop).slice(start).combine_chunks()
        n = table.num_rows
        rows = table.select(["item_id", "text"]).add_column(0, "row", pa.array(range(n), pa.int64()))
        with workspace.scratch() as folder:
            stage([rows.append_column("published_at", pa.nulls(n, pa.timestamp("us")))], folder / "staged.parquet")
            add_items(workspace.store(), folder / "staged.parquet", "test")
        return dict(zip(table["item_id"].to_pylist(), table["label"].to_pylist(), strict=True))

    return take


@pytest.fixture(scope="session")
def give_labels() -> Callable[..., None]:
    """Labels items (item_id -> label) of a workspace's lake for a split."""

    def give(workspace: Workspace, labels: Mapping[str, str], split: Split = Split.TRAINING) -> None:
        labelled = [LabelledItem(item_id, label, "random", None) for item_id, label in labels.items()]
        import_labelled(workspace.store(), f"given-{split.value}", split, labelled, DISASTER.digest, "test")

    return give
