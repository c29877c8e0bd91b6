"""Stage `draw_disputed`: what is disputed goes out once, with the answers of when it was drawn, whatever happens."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable

import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.lake.annotations import ingest
from storage.lake.batches import (
    assignments_of,
    close_batch,
    find_batch,
    items_of,
    open_batches,
    proposals_of,
)
from storage.records import Answer, Batch, Purpose
from storage.workspace import Workspace
from tasks.ask_again import draw_disputed
from tasks.config.settings import BatchConfig
from tasks.sample import publish_batches

TEXTS = {f"i{k}": text for k, text in enumerate(["Floods", "Cats", "=1+1", "Fire, and\nsmoke", "Tea"])}
ASKING = BatchConfig(formats=("csv", "html"), annotators=("anna", "ben"), overlap=2, gold=0.5)
Reserve = Callable[..., Batch]


@pytest.fixture
def first(workspace: Workspace, reserve_batch: Reserve) -> str:
    """A batch of five items, closed: on i3, i1 and i0, answered in that order, anna and ben disagree."""
    batch_id = reserve_batch(workspace, TEXTS).batch_id
    for item_id in ("i3", "i1", "i0"):
        give(workspace, batch_id, {item_id: "related"}, "anna")
        give(workspace, batch_id, {item_id: "not_related"}, "ben", note="no town")
    give(workspace, batch_id, {"i2": "related"}, "anna")
    close_batch(workspace.store(), batch_id)
    return batch_id


def give(workspace: Workspace, batch_id: str, answers: dict[str, str], who: str, note: str = "") -> None:
    given = [Answer(item_id, answer, who, note) for item_id, answer in answers.items()]
    ingest(workspace.store(), batch_id, given, f"{who}-{len(answers)}.csv")


def draw(workspace: Workspace, n: int = 0) -> str | None:
    project = project_of(workspace, batch=ASKING)
    batch_id = draw_disputed(project, n)
    publish_batches(project)
    return batch_id


def ids_of(workspace: Workspace, batch_id: str | None) -> list[str]:
    return [item.item_id for item in items_of(workspace.store(), str(batch_id))]


def shown(workspace: Workspace, batch_id: str | None) -> dict[str, str]:
    with (workspace.batches / str(batch_id) / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["item_id"]: row["answers so far"] for row in csv.DictReader(file)}


def test_where_nothing_is_disputed_nothing_goes_out(workspace: Workspace, reserve_batch: Reserve) -> None:
    give(workspace, reserve_batch(workspace, TEXTS).batch_id, dict.fromkeys(TEXTS, "related"), "anna")
    assert draw(workspace) is None
    assert open_batches(workspace.store()) == []


def test_whoever_takes_the_disputed_items_settles_them_alone(
    workspace: Workspace, label_set: LabelSet, first: str
) -> None:
    batch_id = str(draw(workspace))
    store = workspace.store()
    batch = find_batch(store, batch_id).batch
    assert (batch_id, batch.purpose, batch.n, batch.overlap) == ("b0002-adjudication", Purpose.ADJUDICATION, 3, 1)
    assert (batch.formats, batch.mix, batch.label_set) == (("csv", "html"), {"disputed": 3}, label_set.digest)
    assert assignments_of(store, batch_id) == [], "nobody in particular, and no gold"
    assert [(p.item_id, p.strategy, p.rank) for p in proposals_of(store, batch_id)] == [
        ("i3", "disputed", 1),
        ("i1", "disputed", 2),
        ("i0", "disputed", 3),
    ]
    assert {path.name for path in (workspace.batches / batch_id).iterdir()} == {
        "batch.csv",
        "batch.html",
        "definition.txt",
        "manifest.json",
    }
    give(workspace, batch_id, dict.fromkeys(("i0", "i1", "i3"), "related"), "zoe")
    assert find_batch(store, batch_id).batch.status == "ingested"


def test_those_answered_longest_ago_come_first_and_no_more_than_asked_for(workspace: Workspace, first: str) -> None:
    batch_id = draw(workspace, 2)
    assert ids_of(workspace, batch_id) == ["i3", "i1"]
    assert draw(workspace, 3) == batch_id, "the open one, as it is"
    give(workspace, str(batch_id), {"i3": "unsure", "i1": "related"}, "zoe")
    assert ids_of(workspace, draw(workspace)) == ["i0"]


def test_the_size_in_pal_toml_is_the_most_where_no_number_is_given(workspace: Workspace, first: str) -> None:
    batch_id = draw_disputed(project_of(workspace, batch=BatchConfig(size=2)))
    assert ids_of(workspace, batch_id) == ["i3", "i1"]


def test_the_answers_shown_are_those_of_the_draw_also_when_the_files_are_written_again(
    workspace: Workspace, first: str
) -> None:
    batch_id = draw(workspace)
    expected = "anna: related; ben: not_related (no town)"
    assert shown(workspace, batch_id) == dict.fromkeys(("i0", "i1", "i3"), expected)
    folder = workspace.batches / str(batch_id)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    give(workspace, first, {"i0": "related", "i1": "skip"}, "cleo", note="late")
    give(workspace, str(batch_id), {"i3": "related"}, "zoe")
    shutil.rmtree(folder)
    assert publish_batches(project_of(workspace)) == [folder]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
