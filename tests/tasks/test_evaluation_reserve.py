"""The evaluation reserve: a fair sample of the texts, never queried, never trained on, not to be told from the rest."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from lake_rows import add_rows
from projects import project_of

from annotation.batch import batch_files, contents_of
from annotation.formats.registry import FORMATS
from storage.errors import SamplingError
from storage.lake.annotations import ingest, label_counts, labelled_texts
from storage.lake.batches import batch_results, close_batch, find_batch, items_of, proposals_of
from storage.lake.evaluation_reserve import find_reserve
from storage.lake.items import count_pending
from storage.lake.schema import RANK, workspace_id
from storage.lake.store import Store
from storage.records import Answer, Batch, Split
from storage.workspace import Workspace
from tasks.config.settings import EvaluationConfig, MinimumsConfig, SamplingConfig
from tasks.config.template import PRESETS
from tasks.plan import Minimums, Plan, next_batch_plan, plan_next_batch, reserve_of
from tasks.project import Project
from tasks.sample import publish_batches, sample_batch

N = 200
MINIMUMS = MinimumsConfig(evaluation=40, training=40)
Label = Callable[[str], str]


@pytest.fixture
def project(workspace: Workspace) -> Project:
    """A workspace of 200 texts whose reserve is to have 50, 40 of them evaluation items in the end."""
    add_rows(workspace.store(), [(f"i{k:03}", f"text number {k}") for k in range(N)])
    return project_of(workspace, minimums=MINIMUMS)


@pytest.fixture
def store(project: Project) -> Store:
    return project.workspace.store()


def by_rank(store: Store) -> list[str]:
    return [item_id for (item_id,) in store.rows(f"SELECT item_id FROM lake.items ORDER BY {RANK}")]


def parity(item_id: str) -> str:
    return "related" if int(item_id[1:]) % 2 else "not_related"


def draw(project: Project, n: int, n_evaluation: int, purpose: Split = Split.TRAINING) -> Batch:
    batch_id = sample_batch(project, Plan(purpose, n, False, n_evaluation), None, beside_open=True).batch_id
    return find_batch(project.workspace.store(), batch_id).batch


def asked(store: Store, batch: Batch) -> tuple[list[str], list[str]]:
    """A batch's items of the reserve by rank, and its others."""
    reserved = [each.item_id for each in proposals_of(store, batch.batch_id) if each.strategy == "reserve"]
    ranks = {item_id: k for k, item_id in enumerate(by_rank(store))}
    others = [item.item_id for item in items_of(store, batch.batch_id) if item.item_id not in reserved]
    return sorted(reserved, key=ranks.__getitem__), others


def answer(store: Store, batch: Batch, item_ids: Sequence[str] | None = None, label: Label = parity) -> None:
    ids = [item.item_id for item in items_of(store, batch.batch_id)] if item_ids is None else item_ids
    ingest(store, batch.batch_id, [Answer(item_id, label(item_id), "anna") for item_id in ids], f"{len(ids)}.csv")


def test_a_rank_is_a_hash_of_the_text_and_the_workspaces_seed_that_any_program_can_make(store: Store) -> None:
    found = dict(store.rows(f"SELECT text_hash, {RANK} FROM lake.items"))
    assert found == {text_hash: int(text_hash[:15], 16) for text_hash in found}
    assert abs(np.mean(list(found.values())) / 2**60 - 0.5) < 0.1
    store.write(
        lambda connection: connection.execute("UPDATE lake.workspace SET seed = 999999999999999999"),
        "not that anybody does",
    )
    assert dict(store.rows(f"SELECT text_hash, {RANK} FROM lake.items")) != found


def test_the_reserve_has_the_lowest_ranks_and_they_are_asked_in_that_order(project: Project, store: Store) -> None:
    lowest = by_rank(store)
    reserve = reserve_of(project)
    assert list(reserve.item_ids) == lowest[:50]
    assert (list(reserve.due), list(reserve.spare)) == (lowest[:40], lowest[40:50])
    first, second = draw(project, 20, 10), draw(project, 20, 10)
    assert [asked(store, batch)[0] for batch in (first, second)] == [lowest[:10], lowest[10:20]]
    assert list(reserve_of(project).due) == lowest[20:40]


def test_strategies_query_no_item_of_the_reserve_however_much_is_asked(project: Project, store: Store) -> None:
    reserved, others = [], []
    for _ in range(5):
        batch = asked(store, draw(project, 60, 10))
        reserved, others = reserved + batch[0], others + batch[1]
    assert sorted(others) == sorted(by_rank(store)[50:])
    assert reserved == by_rank(store)[:50], "with nothing else left, the rest of the reserve is asked, too"
    with pytest.raises(SamplingError):
        draw(project, 60, 10)


def test_items_that_a_condition_on_columns_leaves_out_are_in_no_batch_and_not_in_the_reserve(
    project: Project, store: Store
) -> None:
    sql = "UPDATE lake.items SET context = json_object('k', item_id)::VARCHAR"
    store.write(lambda connection: connection.execute(sql), "context")
    project = project.with_config(sampling=SamplingConfig(where="k >= 'i080'"))
    matching = [item_id for item_id in by_rank(store) if item_id >= "i080"]
    assert list(reserve_of(project).item_ids) == matching[:50]
    reserved, others = asked(store, draw(project, 60, 10))
    assert (reserved, len(others)) == (matching[:10], 50)
    assert {*others} < {*matching[50:]}
    with pytest.raises(SamplingError):
        draw(project.with_config(sampling=SamplingConfig(where="k < 'a'")), 10, 0)


def test_the_split_of_an_item_is_what_its_batch_asked_it_for(project: Project, store: Store) -> None:
    batch = draw(project, 20, 8)
    reserved, others = asked(store, batch)
    assert (batch.purpose, batch.n, batch.mix) == (Split.TRAINING, 20, {"reserve": 8, "random": 12})
    assert count_pending(store) == {Split.EVALUATION: 8, Split.TRAINING: 12}
    answer(store, batch)
    counts = label_counts(store)
    assert {split: sum(by_label.values()) for split, by_label in counts.items()} == {
        Split.TRAINING: 12,
        Split.VALIDATION: 0,
        Split.EVALUATION: 8,
    }
    version = store.version()
    assert labelled_texts(store, Split.EVALUATION, version)["item_id"].to_pylist() == sorted(reserved)
    assert labelled_texts(store, Split.TRAINING, version)["item_id"].to_pylist() == sorted(others)
    (result,) = batch_results(store, ["random"], "related")
    assert (result.n_labelled, result.n_random, result.n_reserve) == (20, 12, 8)
    assert result.n_reserve_positive == sum(parity(each) == "related" for each in reserved)
    assert result.n_random_positive == sum(parity(each) == "related" for each in others)


def test_an_item_without_a_label_is_replaced_by_the_next_rank_and_one_given_back_is_asked_again(
    project: Project, store: Store
) -> None:
    lowest = by_rank(store)
    batch = draw(project, 40, 40)
    answer(store, batch, lowest[:3], lambda _: "skip")
    answer(store, batch, lowest[3:30])
    assert reserve_of(project).due == tuple(lowest[40:43])
    close_batch(store, batch.batch_id)
    assert reserve_of(project).due == (*lowest[30:43],)


def test_texts_that_are_added_later_take_their_place_by_rank(project: Project, store: Store) -> None:
    project = project.with_config(evaluation=EvaluationConfig(refresh=0))
    answer(store, draw(project, 40, 40))
    assert reserve_of(project).due == ()
    add_rows(store, [(f"n{k:03}", f"another text {k}") for k in range(N)], "more.csv")
    lowest, reserve = by_rank(store), reserve_of(project)
    assert list(reserve.item_ids) == lowest[:50]
    assert list(reserve.due) == [each for each in lowest[:40] if each.startswith("n")]
    assert 10 < len(reserve.due) < 30


def test_a_higher_target_takes_no_item_that_could_have_been_queried(project: Project, store: Store) -> None:
    draw(project, 20, 10)
    more = project.with_config(minimums=MINIMUMS.model_copy(update={"evaluation": 70}))
    assert set(reserve_of(more).item_ids) == set(by_rank(store)[:50])
    fewer = project.with_config(minimums=MINIMUMS.model_copy(update={"evaluation": 20}))
    assert set(reserve_of(fewer).item_ids) == set(by_rank(store)[:25])


def test_evaluation_items_of_batches_of_their_own_stay_and_count(project: Project, store: Store) -> None:
    first = project.with_config(minimums=MINIMUMS.model_copy(update={"evaluation_share": 0.0}))
    assert reserve_of(first).item_ids == ()
    batch = draw(first, 30, 0, Split.EVALUATION)
    assert batch.reserve_below is None
    assert not contents_of(store, batch).has_reserve
    answer(store, batch)
    before = set(labelled_texts(store, Split.EVALUATION, store.version())["item_id"].to_pylist())
    due = reserve_of(project).due
    assert list(due) == [each for each in by_rank(store) if each not in before][:10]
    plan = next_batch_plan(label_counts(store), Minimums(**MINIMUMS.model_dump()), 40, n_due=len(due))
    assert plan == Plan(Split.TRAINING, 30, active=False, n_evaluation=10)
    answer(store, draw(project, plan.n, plan.n_evaluation))
    assert set(labelled_texts(store, Split.EVALUATION, store.version())["item_id"].to_pylist()) == before | set(due)
    assert reserve_of(project).due == ()


def test_nobody_can_tell_from_the_files_which_items_are_of_the_reserve(project: Project, store: Store) -> None:
    batch = draw(project, 60, 20)
    reserved, _ = asked(store, batch)
    (folder,) = publish_batches(project)
    assert [each.strategy for each in proposals_of(store, batch.batch_id)].count("reserve") == 20
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["workspace_id"] == workspace_id(store)
    assert (manifest["codebook"], manifest["n"], len(manifest["items"])) == (1, 60, 60)
    assert all(item["proposals"] == [] for item in manifest["items"])
    name = next(each.file for each in batch_files(folder) if each.format == "csv")
    with (folder / name).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    places = [k for k, row in enumerate(rows) if row["item_id"] in reserved]
    assert len(places) == 20
    assert 20 < np.mean(places) < 39, "neither first nor last"
    assert len(Counter(frozenset(row) for row in rows)) == 1


@pytest.mark.parametrize("name", ["label-studio", "argilla", "doccano", "prodigy"])
def test_files_of_other_tools_carry_the_id_of_the_workspace(project: Project, store: Store, name: str) -> None:
    asking = project.with_formats((name,))
    draw(asking, 20, 10)
    (folder,) = publish_batches(asking)
    (file,) = (each.file for each in batch_files(folder) if each.format == name)
    assert workspace_id(store) in (folder / file).read_text(encoding="utf-8")
    if name != "argilla":  # it takes an annotation to be a record that comes back
        rows = FORMATS[name].read(folder / file, "")
        assert {row.workspace_id for row in rows} == {workspace_id(store)}


def test_the_same_lake_and_seed_give_the_same_batch(project: Project, store: Store) -> None:
    def drawn() -> list[str]:
        batch = draw(project, 30, 10)
        return [item.item_id for item in items_of(store, batch.batch_id)]

    first = drawn()
    store.write(lambda connection: connection.execute("DELETE FROM lake.batch_items; DELETE FROM lake.batches"), "undo")
    assert drawn() == first


def test_an_empty_lake_has_no_reserve(workspace: Workspace) -> None:
    assert find_reserve(workspace.store(), 10, 0).item_ids == ()
    assert find_reserve(workspace.store(), 10, 10).item_ids == ()


def test_chapter_2_asks_for_what_it_asked_for_before_there_was_a_reserve(workspace: Workspace) -> None:
    """The digests are those of the commit before the reserve."""
    store = workspace.store()
    add_rows(store, [(f"i{k:04}", f"text number {k}") for k in range(1700)])
    project = project_of(workspace, minimums=PRESETS["chapter-2"].minimums)
    found = []
    for _ in range(2):
        plan = plan_next_batch(project)
        batch = sample_batch(project, plan, None)
        ids = [item.item_id for item in items_of(store, batch.batch_id)]
        found.append((batch.batch_id, batch.n, hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]))
        answer(store, batch)
    assert found == [("b0001-evaluation", 1200, "2b9ab7a619d653aa"), ("b0002-training", 400, "d0ad9fc2230c0ad4")]
    assert plan_next_batch(project) == Plan(Split.TRAINING, 100, active=True)
