"""Stage `draw_review`: wrong labels are found and asked about once more, of others, without a word on that label."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.errors import ModelError
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
from tasks.ask_again import Method, answer_matrix, draw_review, out_of_sample
from tasks.config.settings import BatchConfig
from tasks.evaluate import evaluate_model
from tasks.learning.label_errors import label_errors
from tasks.prepare import make_features
from tasks.promote import promote_or_keep
from tasks.sample import publish_batches
from tasks.train import train_model

NOBODY_NAMED = BatchConfig(formats=("csv",))
OTHER = {"related": "not_related", "not_related": "related"}
Take = Callable[..., dict[str, str]]
Give = Callable[..., None]


@pytest.fixture(scope="module")
def truth_once(shared_workspace: Workspace, take_headlines: Take) -> tuple[Path, dict[str, str]]:
    """A workspace with 400 headlines and their features, and their true labels; the rarer one is on about a tenth."""
    found = take_headlines(shared_workspace, 400)
    make_features(project_of(shared_workspace))
    shared_workspace.close()
    return shared_workspace.root, found


@pytest.fixture
def workspace(truth_once: tuple[Path, dict[str, str]], tmp_path: Path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(truth_once[0], tmp_path / "workspace"))


@pytest.fixture
def truth(truth_once: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """The true labels of its headlines."""
    return truth_once[1]


@pytest.fixture
def wrong(workspace: Workspace, truth: dict[str, str], give_labels: Give) -> set[str]:
    """160 items labelled for training, half of them related; 10 of these labels are turned around."""
    ids = half_and_half(truth, 80)
    flipped = set(ids[:10])
    give_labels(
        workspace, {item_id: OTHER[truth[item_id]] if item_id in flipped else truth[item_id] for item_id in ids}
    )
    return flipped


def half_and_half(truth: dict[str, str], n: int) -> list[str]:
    """Up to n items of each label, in turn."""
    both = [[item_id for item_id in sorted(truth) if truth[item_id] == label][:n] for label in OTHER]
    return [item_id for pair in zip(*both, strict=False) for item_id in pair]


def answered_batch(workspace: Workspace, ids: list[str]) -> str:
    """A training batch of these items, to be answered."""
    proposals = [Proposal(item_id, "x", None, 1) for item_id in ids]
    draft = Draft(Purpose.TRAINING, ids, proposals, 0, 0, "d")
    return reserve(workspace.store(), draft, beside_open=False)[0].batch_id


def draw(
    workspace: Workspace, n: int = 10, *, method: Method = "confident-learning", asking: BatchConfig = NOBODY_NAMED
) -> str | None:
    project = project_of(workspace, batch=asking)
    batch_id = draw_review(project, n, method)
    publish_batches(project)
    return batch_id


def ids_of(workspace: Workspace, batch_id: str | None) -> list[str]:
    return [item.item_id for item in items_of(workspace.store(), str(batch_id))]


def give(workspace: Workspace, batch_id: str, answers: dict[str, str], who: str) -> None:
    ingest(workspace.store(), batch_id, [Answer(item_id, answer, who) for item_id, answer in answers.items()], who)


def test_the_most_suspicious_come_first_and_hardly_anything_but_wrong_labels(
    workspace: Workspace, wrong: set[str]
) -> None:
    batch_id = str(draw(workspace))
    store = workspace.store()
    batch = find_batch(store, batch_id).batch
    assert (batch_id, batch.purpose, batch.n, batch.overlap) == ("b0001-review", Purpose.REVIEW, 10, 1)
    assert (batch.mix, batch.model_id, batch.formats) == ({"confident_learning": 10}, None, ("csv",))
    assert len(wrong & set(ids_of(workspace, batch_id))) >= 4, "of 10 of 160 by chance: one at most"
    proposals = proposals_of(store, batch_id)
    assert [(p.strategy, p.rank) for p in proposals] == [("confident_learning", k) for k in range(1, 11)]
    scores = [p.score or 0 for p in proposals]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < scores[0] <= 1
    with (workspace.batches / batch_id / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {(row["label"], row["note"], row["annotator"]) for row in rows} == {("", "", "")}, "neither is shown"
    assert "answers so far" not in rows[0]


def test_an_open_review_stays_as_it_is_and_an_answered_item_is_never_asked_about_again(
    workspace: Workspace, wrong: set[str]
) -> None:
    first = str(draw(workspace, 10))
    assert draw(workspace, 9) == first
    asked = ids_of(workspace, first)
    give(workspace, first, {asked[0]: "related", asked[1]: "unsure"}, "anna")
    close_batch(workspace.store(), first)
    again = ids_of(workspace, draw(workspace, 160))
    items = out_of_sample(project_of(workspace), workspace.store().version())
    suspicious = {items.item_ids[at] for at in label_errors(items.labels, items.probabilities).positions}
    assert set(again) == suspicious - {asked[0], asked[1]}
    assert set(asked[2:]) & set(again), "nobody answered these"
    assert len(set(again)) == len(again)


def test_held_out_items_are_not_asked_about_whatever_their_labels(
    workspace: Workspace, truth: dict[str, str], wrong: set[str], give_labels: Give
) -> None:
    labelled = {row[0] for row in workspace.store().rows("SELECT item_id FROM lake.annotations")}
    held_out = [item_id for item_id in truth if item_id not in labelled][:40]
    give_labels(workspace, {item_id: OTHER[truth[item_id]] for item_id in held_out}, Split.EVALUATION)
    assert set(ids_of(workspace, draw(workspace, 160))) <= labelled


def test_who_answered_before_is_asked_only_where_there_is_nobody_else(
    workspace: Workspace, truth: dict[str, str]
) -> None:
    store, ids = workspace.store(), half_and_half(truth, 40)
    batch_id = answered_batch(workspace, ids)
    given = {item_id: OTHER[truth[item_id]] if k < 10 else truth[item_id] for k, item_id in enumerate(ids)}
    give(workspace, batch_id, {item_id: given[item_id] for item_id in ids[::2]}, "anna")
    give(workspace, batch_id, {item_id: given[item_id] for item_id in ids[1::2]}, "ben")
    asking = BatchConfig(formats=("csv",), annotators=("anna", "ben", "cleo"), overlap=2)
    review = str(draw(workspace, 12, asking=asking))
    asked = {(each.item_id, each.annotator) for each in assignments_of(store, review)}
    assert len(asked) == 2 * find_batch(store, review).batch.n > 0
    assert find_batch(store, review).batch.overlap == 2
    assert not asked & {(item_id, ("anna", "ben")[k % 2]) for k, item_id in enumerate(ids)}
    assert {path.name for path in (workspace.batches / review).glob("*.csv")} == {
        f"batch-{name}.csv" for _, name in asked
    }


def test_the_production_model_is_on_record_with_the_review(workspace: Workspace, wrong: set[str]) -> None:
    project = project_of(workspace)
    model = train_model(project)
    promote_or_keep(project, model, evaluate_model(project, model))
    assert find_batch(workspace.store(), str(draw(workspace))).batch.model_id == model.model_id


def test_where_no_label_is_suspicious_nothing_goes_out(
    workspace: Workspace, truth: dict[str, str], give_labels: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_labels(workspace, dict(list(truth.items())[:100]))

    def sure(_encoder: object, examples: object, _config: object, *, n_labels: int) -> object:
        return np.eye(n_labels, dtype=np.float32)[examples.labels]  # type: ignore[attr-defined]

    monkeypatch.setattr("tasks.ask_again.cross_validated_probabilities", sure)
    assert draw(workspace) is None
    assert open_batches(workspace.store()) == []


def test_labels_of_one_kind_only_are_an_error_and_nothing_goes_out(
    workspace: Workspace, truth: dict[str, str], give_labels: Give
) -> None:
    give_labels(workspace, dict.fromkeys(list(truth)[:20], "related"))
    with pytest.raises(ModelError):
        draw(workspace)
    assert open_batches(workspace.store()) == []


def test_the_matrix_of_answers_has_the_independent_ones_in_the_order_of_the_items(
    workspace: Workspace, label_set: LabelSet, truth: dict[str, str]
) -> None:
    store, ids = workspace.store(), sorted(truth)[:4]
    batch_id = answered_batch(workspace, ids)
    give(workspace, batch_id, {ids[0]: "related", ids[1]: "not_related", ids[2]: "unsure"}, "ben")
    give(workspace, batch_id, {ids[1]: "related", ids[3]: "flood"}, "anna")
    give(workspace, batch_id, {ids[2]: "related"}, "unnamed")
    matrix, names = answer_matrix(store, [ids[2], ids[1], ids[0]], label_set)
    related, not_related = (label_set.names.index(name) for name in ("related", "not_related"))
    assert names == ("anna", "ben")
    assert matrix.tolist() == [[-1, -1], [related, not_related], [-1, related]]


# By what one more answer is worth


@pytest.fixture
def two_rounds(workspace: Workspace, truth: dict[str, str], give_labels: Give) -> tuple[list[str], set[str]]:
    """Items by anna and ben, who agree but on ten of them: all these items, and the ten; others have nobody's label."""
    ids = half_and_half(truth, 30)
    give_labels(workspace, {item_id: truth[item_id] for item_id in sorted(truth.keys() - set(ids))[:30]})
    doubtful = set(ids[:10])
    batch_id = answered_batch(workspace, ids)
    give(workspace, batch_id, {item_id: truth[item_id] for item_id in ids}, "anna")
    give(workspace, batch_id, {i: OTHER[truth[i]] if i in doubtful else truth[i] for i in ids}, "ben")
    give(workspace, batch_id, {item_id: truth[item_id] for item_id in doubtful}, "cleo")
    return ids, doubtful


def test_items_that_annotators_disagree_on_are_worth_most_and_then_the_next_most_valuable_are_asked(
    workspace: Workspace, two_rounds: tuple[list[str], set[str]]
) -> None:
    ids, doubtful = two_rounds
    seen: set[str] = set()
    for n in (10, 8):
        batch_id = str(draw(workspace, n, method="active-lab"))
        asked = ids_of(workspace, batch_id)
        assert find_batch(workspace.store(), batch_id).batch.mix == {"active_lab": n}
        assert len(asked) == n
        assert seen or len(doubtful & set(asked)) >= 8
        assert not seen & set(asked)
        assert set(asked) <= set(ids)
        seen |= set(asked)
        give(workspace, batch_id, {k: ("related", "not_related")[n % 2] for n, k in enumerate(asked)}, "dora")
