"""Several annotators, from the draw to the settled label: who is asked, what is disputed, what counts in the end."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import project_of

from annotation.batch import batch_files, contents_of
from storage.lake.annotations import label_counts
from storage.lake.batches import find_batch, items_of
from storage.lake.history import disputed_items, gold_items, history_of, settled_labels
from storage.lake.people import people
from storage.records import BatchStatus, Purpose, Split
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
    return take_headlines(workspace, 400)


def draw(workspace: Workspace, n: int, asking: BatchConfig = ASKING) -> str:
    project = project_of(workspace, batch=asking)
    make_features(project)
    batch_id = sample_batch(project, Plan(Split.TRAINING, n, active=False), None)
    publish_batches(project)
    return batch_id


def draw_and_publish_disputed(workspace: Workspace) -> str:
    project = project_of(workspace, batch=ASKING)
    batch_id = draw_disputed(project)
    publish_batches(project)
    assert batch_id is not None
    return batch_id


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def answer(workspace: Workspace, path: Path, answers: dict[str, str]) -> None:
    """Fill in a file for the items given, and ingest it."""
    rows = rows_of(path)
    for row in rows:
        row["label"] = answers.get(row["item_id"], "")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    collect_answers(project_of(workspace))


def asked(workspace: Workspace, batch_id: str) -> dict[str, list[str]]:
    folder = workspace.batches / batch_id
    return {each.annotator: [row["item_id"] for row in rows_of(folder / each.file)] for each in batch_files(folder)}


def disputed_batch(workspace: Workspace, truth: dict[str, str]) -> tuple[str, list[str]]:
    """Six items by two each: the first is level, the second unsure twice, the third skipped twice, the rest agreed."""
    batch_id = draw(workspace, 6)
    ids = [item.item_id for item in items_of(workspace.store(), batch_id)]
    files = asked(workspace, batch_id)
    other = {"related": "not_related", "not_related": "related"}
    first = next(name for name in PEOPLE if ids[0] in files[name])
    for name in PEOPLE:
        answers = {item_id: truth[item_id] for item_id in files[name]} | {ids[1]: "unsure", ids[2]: "skip"}
        if name == first:
            answers[ids[0]] = other[truth[ids[0]]]
        answer(workspace, workspace.batches / batch_id / f"batch-{name}.csv", answers)
    return batch_id, ids


def test_what_is_level_or_unsure_is_disputed_and_what_the_adjudicator_says_stands(
    workspace: Workspace, truth: dict[str, str]
) -> None:
    store = workspace.store()
    batch_id, ids = disputed_batch(workspace, truth)
    assert set(disputed_items(store)) == {ids[0], ids[1]}, "not what all skipped"
    again = draw_and_publish_disputed(workspace)
    assert draw_and_publish_disputed(workspace) == again, "run twice, published once"
    assert find_batch(store, again).batch.purpose is Purpose.ADJUDICATION
    shown = {row["item_id"]: row["answers so far"] for row in rows_of(workspace.batches / again / "batch.csv")}
    assert set(shown[ids[1]].replace(";", ":").split(": ")[1::2]) == {"unsure"}
    assert {"related", "not_related"} == set(shown[ids[0]].replace(";", ":").split(": ")[1::2])
    answer(workspace, workspace.batches / again / "batch.csv", {ids[0]: truth[ids[0]], ids[1]: "unsure"})
    assert history_of(store, ids[0]).label == truth[ids[0]]
    assert history_of(store, ids[0]).split is Split.TRAINING, "an item keeps its split"
    assert disputed_items(store) == [], "what an adjudicator leaves open is not asked for ever"
    assert settled_labels(store) == {ids[0]: truth[ids[0]]}
    late = {"related": "not_related", "not_related": "related"}[truth[ids[0]]]
    for name in PEOPLE:
        path = workspace.batches / batch_id / f"batch-{name}.csv"
        answer(workspace, path, {row["item_id"]: late for row in rows_of(path)})
    assert history_of(store, ids[0]).label == truth[ids[0]], "late answers do not outvote it"
    assert len(history_of(store, ids[0]).answers) == 4, "one of them said so before"


def test_settled_items_are_mixed_in_unmarked_and_never_change_a_label(
    workspace: Workspace, truth: dict[str, str]
) -> None:
    store = workspace.store()
    _, ids = disputed_batch(workspace, truth)
    again = draw_and_publish_disputed(workspace)
    settled = dict.fromkeys(ids[:2], "related")
    answer(workspace, workspace.batches / again / "batch.csv", settled)
    asking = BatchConfig(formats=("csv", "html"), annotators=PEOPLE, overlap=2, gold=0.5)
    batch_id = draw(workspace, 6, asking)
    batch = find_batch(store, batch_id).batch
    gold = [each for each in contents_of(store, batch).assignments if each.gold]
    assert gold, "each of the settled items has an annotator who has not seen it"
    assert batch.n == 6
    before = {item_id: {each.annotator for each in history_of(store, item_id).answers} for item_id in settled}
    assert all(each.annotator not in before[each.item_id] for each in gold)
    folder = workspace.batches / batch_id
    assert not any(b"gold" in path.read_bytes().lower() for path in folder.glob("batch-*.csv"))
    labels = label_counts(store)
    for name in PEOPLE:
        path = folder / f"batch-{name}.csv"
        answer(workspace, path, {row["item_id"]: "not_related" for row in rows_of(path)})
    assert find_batch(store, batch_id).batch.status is BatchStatus.INGESTED
    assert {history_of(store, item_id).label for item_id in settled} == {"related"}
    assert sum(label_counts(store)[Split.TRAINING].values()) == sum(labels[Split.TRAINING].values()) + 6
    tested = {each.annotator: (each.n_gold, each.n_right) for each in people(store) if each.n_gold}
    assert tested == {name: (n, 0) for name, n in Counter(each.annotator for each in gold).items()}, (
        "all answered wrong"
    )
    assert {(each.annotator, each.item_id) for each in gold} == {
        (annotator, item_id) for annotator, items in gold_items(store).items() for item_id in items
    }


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


def test_a_name_in_another_case_is_no_second_annotator(workspace: Workspace, truth: dict[str, str]) -> None:
    batch_id = draw(workspace, 6)
    path = workspace.batches / batch_id / "batch-anna.csv"
    content = path.read_text(encoding="utf-8-sig").replace(",anna,", ",Anna ,")
    answer(workspace, path, truth)
    (workspace.inbox / "copy.csv").write_text(content, encoding="utf-8", newline="")
    answer(workspace, workspace.inbox / "copy.csv", truth)
    progress = find_batch(workspace.store(), batch_id)
    assert (progress.n_answered, progress.n_answers) == (4, 4), "each item waits for somebody else"
