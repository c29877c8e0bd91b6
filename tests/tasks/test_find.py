"""Search by words and meaning, and what its matches count as once they are a batch."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from projects import project_of

from annotation.synthetic import fill_csv
from flows.cli.item_view import item_text, item_view
from flows.next_batch import publish_found
from flows.run import run_here
from storage.errors import BatchError, SamplingError
from storage.lake.batches import batch_results, find_batch, proposals_of
from storage.lake.connection import bound
from storage.lake.items import texts_of
from storage.lake.search import Scope
from storage.records import Split
from storage.workspace import Workspace
from tasks.collect import collect_answers
from tasks.config.settings import MinimumsConfig, SamplingConfig
from tasks.draw_found import FOUND
from tasks.evaluate import evaluate_model
from tasks.find import Search, find_items
from tasks.learning.training import TrainingConfig
from tasks.plan import UNBIASED, reserve_of
from tasks.prepare import make_features
from tasks.project import Project
from tasks.promote import promote_or_keep
from tasks.train import train_model

Take = Callable[..., dict[str, str]]


@pytest.fixture
def searched(workspace: Workspace, take_headlines: Take) -> Project:
    """400 headlines, 200 of them in the evaluation reserve."""
    take_headlines(workspace, 400)
    return project_of(workspace, minimums=MinimumsConfig(evaluation=200), training=TrainingConfig(epochs=2))


def test_words_and_meaning_are_fused(searched: Project) -> None:
    words, meaning, both = (
        [hit.item_id for hit in find_items(searched, Search("flood", by=by), Scope(), 10)]
        for by in ("words", "meaning", "both")
    )
    assert set(words) != set(meaning)
    assert both[0] in {*words} & {*meaning}
    texts = texts_of(searched.workspace.store(), words)
    assert all(re.search(r"\bflood", texts[item_id].lower()) for item_id in words)


def test_similar_items_are_found_by_meaning_without_the_item_itself(searched: Project) -> None:
    first = find_items(searched, Search("flood"), Scope(), 1)[0]
    similar = find_items(searched, Search(like=first.item_id), Scope(), 5)
    assert first.item_id not in {hit.item_id for hit in similar}
    assert 1 > similar[0].score >= similar[-1].score > 0
    with pytest.raises(BatchError, match="'nowhere'"):
        find_items(searched, Search(like="nowhere"), Scope(), 5)


def test_matches_are_published_for_training_and_count_as_nothing_random(searched: Project) -> None:
    store, held_out = searched.workspace.store(), reserve_of(searched)
    batch_id = run_here(searched, publish_found, "flood", n=30)
    asked = {proposal.item_id for proposal in proposals_of(store, batch_id)}
    assert {proposal.strategy for proposal in proposals_of(store, batch_id)} == {FOUND}
    assert asked.isdisjoint(held_out.item_ids)
    batch = find_batch(store, batch_id).batch
    assert (batch.n, batch.purpose.value, batch.reserve_below) == (30, "training", held_out.below)
    fill_csv(searched.workspace.batches / batch_id / "batch.csv", dict.fromkeys(asked, "related"))
    collect_answers(searched)
    (result,) = batch_results(store, UNBIASED, "related")
    assert (result.purpose, result.n_positive) == (Split.TRAINING, 30)
    assert (result.n_random, result.n_reserve) == (0, 0)
    assert reserve_of(searched) == held_out


def test_matches_of_a_batch_fulfill_the_condition_of_the_settings(searched: Project) -> None:
    store, hits = searched.workspace.store(), find_items(searched, Search("flood"), Scope(), 60)
    change = bound(
        "UPDATE lake.items SET context = ? WHERE item_id NOT IN (SELECT unnest(?))",
        ['{"lang": "en"}', [hit.item_id for hit in hits]],
    )
    store.write(lambda connection: connection.execute(change), "context")
    sampling = SamplingConfig(where="lang = 'en'")
    english = project_of(searched.workspace, minimums=MinimumsConfig(evaluation=50), sampling=sampling)
    batch_id = run_here(english, publish_found, "flood", by="meaning", n=30)
    asked = {proposal.item_id for proposal in proposals_of(store, batch_id)}
    assert len(asked) == 30
    assert asked.isdisjoint(hit.item_id for hit in hits)


def test_nothing_is_taken_out_while_evaluation_items_are_drawn_from_the_whole_pool(
    workspace: Workspace, take_headlines: Take
) -> None:
    take_headlines(workspace, 100)
    first = project_of(workspace, minimums=MinimumsConfig(evaluation=20, training=30, evaluation_share=0))
    with pytest.raises(SamplingError, match=r"\b20 evaluation\b"):
        run_here(first, publish_found, "flood")


def test_an_item_is_shown_with_all_that_is_known(searched: Project, give_labels: Callable[..., None]) -> None:
    workspace = searched.workspace
    hits = find_items(searched, Search("flood"), Scope(), 40)
    labels = {hit.item_id: ("related" if k % 2 else "not_related") for k, hit in enumerate(hits)}
    item_id, *others = labels
    view = item_view(searched, item_id)
    assert (view.history.split, view.model_id, view.probabilities) == (None, None, {})
    give_labels(workspace, labels)
    make_features(searched)
    model = train_model(searched)
    promote_or_keep(searched, model, evaluate_model(searched, model))
    view = item_view(searched, item_id)
    assert (view.history.split, view.history.label, view.model_id) == (Split.TRAINING, "not_related", model.model_id)
    assert sum(view.probabilities.values()) == pytest.approx(1)
    assert len(view.neighbours) == 5
    assert all(each.label == labels.get(each.item_id) for each in view.neighbours)
    shown = item_text(view)
    assert all(each.item_id in shown for each in view.neighbours)
    assert model.model_id in shown
    assert others
