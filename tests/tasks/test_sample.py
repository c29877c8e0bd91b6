"""Stage `sample_batch`: the batch is the best of the whole pool, and of nothing but the pool."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import ClassVar

import pytest
from projects import project_of

from annotation.batch import read_manifest
from storage.errors import SamplingError
from storage.lake.annotations import ingest
from storage.lake.batches import (
    Draft,
    assignments_of,
    close_batch,
    find_batch,
    items_of,
    open_batches,
    proposals_of,
    reserve,
)
from storage.records import Answer, Proposal, Purpose, Split
from storage.workspace import Workspace
from tasks.config.settings import BatchConfig, MinimumsConfig, SamplingConfig
from tasks.learning.encoders import BAG_OF_WORDS
from tasks.learning.model_files import LoadedModel, load_model
from tasks.learning.training import TrainingConfig
from tasks.plan import Plan
from tasks.prepare import make_features
from tasks.project import Project
from tasks.sample import publish_batches, sample_batch, share_out
from tasks.sampling.strategies.uncertainty import least_confidence_scores
from tasks.train import train_model

RANDOM: dict[str, int] = {"random": 1}
Take = Callable[..., dict[str, str]]
Give = Callable[..., None]


def drawn(
    workspace: Workspace,
    n: int,
    mix: dict[str, int] | SamplingConfig = RANDOM,
    model: LoadedModel | None = None,
    *,
    beside_open: bool = False,
) -> str:
    """A batch of n from the items there are now; returns its id."""
    sampling = mix if isinstance(mix, SamplingConfig) else SamplingConfig(mix=dict(mix), start=dict(mix))
    minimums = MinimumsConfig(evaluation_share=0)  # no reserve
    project = project_of(workspace, encoder=BAG_OF_WORDS, sampling=sampling, minimums=minimums)
    make_features(project)
    plan = Plan(Split.TRAINING, n, model is not None)
    return sample_batch(project, plan, model, seed=5, beside_open=beside_open).batch_id


def trained(workspace: Workspace) -> LoadedModel:
    """A model of the labels there are, after a few epochs."""
    return train_model(project_of(workspace, encoder=BAG_OF_WORDS, training=TrainingConfig(epochs=3)))


def ids_of(workspace: Workspace, batch_id: str) -> list[str]:
    return [item.item_id for item in items_of(workspace.store(), batch_id)]


def assert_least_confident_of_all(workspace: Workspace, batch_id: str, model_id: str, pool: list[str]) -> None:
    """Scores and ranks are those among all texts of the pool; only near-duplicates are passed over."""
    texts = dict(workspace.store().rows("SELECT item_id, text FROM lake.items"))
    scores = least_confidence_scores(load_model(workspace.models / model_id).predict([texts[each] for each in pool]))
    expected = dict(zip(pool, scores.tolist(), strict=True))
    proposals = proposals_of(workspace.store(), batch_id)
    best = sorted(expected.values(), reverse=True)
    assert [p.score for p in proposals] == pytest.approx([best[p.rank - 1] for p in proposals], abs=1e-6)
    assert max(p.rank for p in proposals) < 1.5 * len(proposals) + 1
    assert [p.score for p in proposals] == pytest.approx([expected[p.item_id] for p in proposals], abs=1e-6)


def test_the_whole_pool_is_scored_and_only_the_pool(
    workspace: Workspace, take_headlines: Take, give_labels: Give
) -> None:
    items = list(take_headlines(workspace, 400).items())
    give_labels(workspace, dict(items[:100]))
    give_labels(workspace, dict(items[100:150]), Split.EVALUATION)
    model = trained(workspace)
    batch_id = drawn(workspace, 20, {"least_confidence": 1}, model)
    assert_least_confident_of_all(workspace, batch_id, model.model_id, [item_id for item_id, _ in items[150:]])
    assert open_batches(workspace.store())[0].batch.model_id == model.model_id


def test_no_held_out_annotated_or_pending_item_is_drawn_and_a_smaller_pool_is_drawn_whole(
    workspace: Workspace, take_headlines: Take, give_labels: Give
) -> None:
    items = list(take_headlines(workspace, 60).items())
    give_labels(workspace, dict(items[:10]))
    give_labels(workspace, dict(items[10:20]), Split.EVALUATION)
    give_labels(workspace, dict(items[20:25]), Split.VALIDATION)
    pending = ids_of(workspace, drawn(workspace, 15))
    batch_id = drawn(workspace, 1000, {"random": 10, "outlier": 90}, beside_open=True)
    found = ids_of(workspace, batch_id)
    assert sorted([*found, *pending]) == [item_id for item_id, _ in items[25:]]
    batch = open_batches(workspace.store())[1].batch
    assert (batch.n, batch.mix) == (20, {"random": 2, "outlier": 18})


class SamplingWithRival(SamplingConfig):
    """Settings that, when they are first looked at, let another draw overtake this one."""

    rivals: ClassVar[list[Callable[[], None]]] = []

    @property
    def cold(self) -> dict[str, float]:
        if self.rivals:
            self.rivals.pop()()
        return {"random": 1}


def test_a_draw_that_is_overtaken_draws_again_from_what_is_left(
    workspace: Workspace,
    take_headlines: Take,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, logger="tasks.sample")
    pool = list(take_headlines(workspace, 30))
    rivals: list[str] = []
    monkeypatch.setattr(SamplingWithRival, "rivals", [lambda: rivals.append(drawn(workspace, 25, beside_open=True))])
    batch_id = drawn(workspace, 10, SamplingWithRival(), beside_open=True)  # 10 + 25 of 30: they must meet
    assert len([line for line in caplog.messages if re.search(r"\d of 10\b", line)]) == 1, "overtaken once"
    assert sorted(ids_of(workspace, batch_id) + ids_of(workspace, rivals[0])) == pool


def test_what_cannot_run_gives_its_share_to_its_substitute_and_the_manifest_says_so(
    workspace: Workspace, take_headlines: Take, give_labels: Give
) -> None:
    give_labels(workspace, dict(list(take_headlines(workspace, 300).items())[:100]))
    model = trained(workspace)
    batch_id = drawn(workspace, 20, {"transfer_uncertainty": 15, "random": 5}, model)
    publish_batches(project_of(workspace))
    shares = read_manifest(workspace.batches / batch_id)["strategies"]
    assert [(share["strategy"], share["n"], share["ran"]) for share in shares] == [
        ("transfer_uncertainty", 15, "least_confidence"),
        ("random", 5, "random"),
    ]
    assert shares[0]["missing"].startswith("validation items")
    assert shares[1]["missing"] is None


def test_held_out_items_are_drawn_at_random_whatever_the_mix_says(workspace: Workspace, take_headlines: Take) -> None:
    take_headlines(workspace, 60)
    sampling = SamplingConfig(mix={"outlier": 1}, start={"outlier": 1})
    minimums = MinimumsConfig(evaluation_share=0)  # no reserve
    project = project_of(workspace, encoder=BAG_OF_WORDS, sampling=sampling, minimums=minimums)
    make_features(project)
    batch_id = sample_batch(project, Plan(Split.EVALUATION, 10, active=False), None).batch_id
    assert {p.strategy for p in proposals_of(workspace.store(), batch_id)} == {"random"}


def test_keywords_fill_half_of_the_first_training_batch(workspace: Workspace, take_headlines: Take) -> None:
    take_headlines(workspace, 600)
    project = project_of(workspace, sampling=SamplingConfig(keywords=("flood",)))
    make_features(project)
    batch_id = sample_batch(project, Plan(Split.TRAINING, 10, active=False), None).batch_id
    by_strategy: dict[str, list[str]] = {}
    texts = {item.item_id: item.text for item in items_of(workspace.store(), batch_id)}
    for p in proposals_of(workspace.store(), batch_id):
        by_strategy.setdefault(p.strategy, []).append(texts[p.item_id])
    assert {name: len(found) for name, found in by_strategy.items()} == {"random": 5, "keyword": 5}
    assert sum("flood" in text for text in by_strategy["keyword"]) >= 3


def test_an_open_batch_is_returned_in_place_of_a_new_one_and_a_closed_one_does_not_come_back_identical(
    workspace: Workspace, take_headlines: Take
) -> None:
    take_headlines(workspace, 80)
    first = drawn(workspace, 10)
    assert drawn(workspace, 5) == first
    assert close_batch(workspace.store(), first) == 10
    second = drawn(workspace, 10)
    assert second != first
    assert set(ids_of(workspace, second)) != set(ids_of(workspace, first))


def test_an_empty_pool_is_an_error_that_names_the_import(
    workspace: Workspace, take_headlines: Take, give_labels: Give
) -> None:
    give_labels(workspace, take_headlines(workspace, 30))
    with pytest.raises(SamplingError) as caught:
        drawn(workspace, 10)
    assert "pal import FILE" in caught.value.hint
    assert open_batches(workspace.store()) == []


def test_a_model_of_an_older_vocabulary_scores_the_pool_in_its_own_tokens(
    workspace: Workspace, take_headlines: Take, give_labels: Give
) -> None:
    labels = take_headlines(workspace, 150)
    give_labels(workspace, dict(list(labels.items())[:100]))
    model = trained(workspace)
    new_items = list(take_headlines(workspace, 400, start=150))
    assert make_features(project_of(workspace, encoder=BAG_OF_WORDS)) != model.encoder.encoder_id
    batch_id = drawn(workspace, 20, {"least_confidence": 1}, model)
    assert_least_confident_of_all(workspace, batch_id, model.model_id, [*list(labels)[100:], *new_items])


# Shared out among annotators

PEOPLE = ("anna", "ben", "cleo")


def random_project(workspace: Workspace, asking: BatchConfig) -> Project:
    """Batches drawn at random and shared out like this."""
    sampling = SamplingConfig(mix=dict(RANDOM), start=dict(RANDOM))
    minimums = MinimumsConfig(evaluation_share=0)  # no reserve
    return project_of(workspace, encoder=BAG_OF_WORDS, sampling=sampling, batch=asking, minimums=minimums)


@pytest.fixture
def settled(workspace: Workspace, take_headlines: Take) -> list[str]:
    """Of 80 headlines 12 are settled: anna and ben answered the first six, zoe adjudicated all."""
    store, ids = workspace.store(), sorted(take_headlines(workspace, 80))[:12]
    for purpose, people in ((Purpose.TRAINING, ("anna", "ben")), (Purpose.ADJUDICATION, ("zoe",))):
        proposals = [Proposal(item_id, "x", None, 1) for item_id in ids]
        batch_id = reserve(store, Draft(purpose, ids, proposals, 0, 0, "d"), beside_open=True)[0].batch_id
        for who in people:
            asked = ids if who == "zoe" else ids[:6]
            ingest(store, batch_id, [Answer(item_id, "related", who) for item_id in asked], who)
        close_batch(store, batch_id)
    return ids


def test_without_annotators_nobody_in_particular_is_asked(workspace: Workspace, settled: list[str]) -> None:
    assert share_out(workspace.store(), ["demo-00050"], BatchConfig(), 0) == []


def test_gold_is_settled_unseen_by_its_annotator_and_none_of_the_batchs_own(
    workspace: Workspace, settled: list[str]
) -> None:
    own = [f"own {k}" for k in range(10)]
    asking = BatchConfig(annotators=(*PEOPLE, "zoe"), overlap=4, gold=1.0)
    found = share_out(workspace.store(), [*own, settled[11]], asking, 0)
    gold = {name: {each.item_id for each in found if each.gold and each.annotator == name} for name in (*PEOPLE, "zoe")}
    assert gold["anna"] == gold["ben"] == set(settled[6:11]), "not what they answered, and not one of the batch"
    assert gold["cleo"] == set(settled[:11])
    assert gold["zoe"] == set(), "she settled them"
    assert {each.item_id for each in found if not each.gold} == {*own, settled[11]}


def test_an_annotator_gets_no_gold_item_twice_though_the_first_was_not_answered(
    workspace: Workspace, settled: list[str]
) -> None:
    project = random_project(workspace, BatchConfig(annotators=("cleo",), gold=0.5))
    seen: list[str] = []
    for n_gold in (5, 5, 2, 0):
        make_features(project)
        batch_id = sample_batch(project, Plan(Split.TRAINING, 10, active=False), None, beside_open=True).batch_id
        batch = find_batch(workspace.store(), batch_id).batch
        gold = [each.item_id for each in assignments_of(workspace.store(), batch_id) if each.gold]
        assert (len(gold), batch.n) == (n_gold, 10)
        seen += gold
    assert sorted(seen) == settled


def test_the_batch_is_kept_with_who_is_asked_and_its_formats(workspace: Workspace, take_headlines: Take) -> None:
    take_headlines(workspace, 80)
    project = random_project(workspace, BatchConfig(formats=("html", "csv"), annotators=PEOPLE, overlap=2))
    make_features(project)
    batches = [
        sample_batch(project, Plan(purpose, 9, active=False), None, seed=5, beside_open=True)
        for purpose in (Split.EVALUATION, Split.TRAINING)
    ]
    for batch in batches:
        assert (batch.overlap, batch.formats) == (2, ("html", "csv"))
        asked = assignments_of(workspace.store(), batch.batch_id)
        assert {each.item_id for each in asked} == set(ids_of(workspace, batch.batch_id))
        assert [sum(each.annotator == name for each in asked) for name in PEOPLE] == [6, 6, 6]
