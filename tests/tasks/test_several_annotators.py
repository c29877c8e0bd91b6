"""Several annotators, from the draw to the settled label: who is asked, what is disputed, what counts in the end."""

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest
from projects import project_of

from storage.lake.batches import find_batch
from storage.lake.history import disputed_items
from storage.records import BatchStatus, Split
from storage.workspace import Workspace
from tasks.ask_again import draw_disputed
from tasks.collect import collect_answers
from tasks.config.settings import BatchConfig
from tasks.plan import Plan
from tasks.prepare import make_features
from tasks.sample import publish_batches, sample_batch

PEOPLE = ("anna", "ben", "cleo")
ASKING = BatchConfig(formats=("csv",), annotators=PEOPLE, overlap=2)


@pytest.fixture
def truth(workspace: Workspace, take_headlines: Callable[..., dict[str, str]]) -> dict[str, str]:
    return take_headlines(workspace, 40)


def draw(workspace: Workspace, n: int, asking: BatchConfig = ASKING) -> str:
    project = project_of(workspace, batch=asking)
    make_features(project)
    batch_id = sample_batch(project, Plan(Split.TRAINING, n, active=False), None).batch_id
    publish_batches(project)
    return batch_id


def test_a_file_that_was_handed_to_somebody_is_theirs_where_its_rows_name_nobody(
    workspace: Workspace, truth: dict[str, str]
) -> None:
    asking = BatchConfig(formats=("original",), annotators=PEOPLE, overlap=2)
    batch_id = draw(workspace, 6, asking)
    for name in PEOPLE:
        path = workspace.batches / batch_id / f"original-{name}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            rows = [[row[0], row[1], "1" if name == "anna" else "0"] for row in csv.reader(file)]
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    collect_answers(project_of(workspace))
    store = workspace.store()
    assert find_batch(store, batch_id).batch.status is BatchStatus.INGESTED
    assert len(disputed_items(store)) == 4, "those of anna and somebody else"
    again = draw_disputed(project_of(workspace, batch=asking))
    (workspace.inbox / "late.csv").write_bytes((workspace.batches / batch_id / "original-ben.csv").read_bytes())
    collect_answers(project_of(workspace))
    assert find_batch(store, str(again)).n_answered == 0, "a file that names no batch settles nothing"
