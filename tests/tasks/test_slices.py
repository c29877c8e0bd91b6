"""Texts that arrive over time: each slice of imports is evaluated on, counts by its size, and can decide the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lake_rows import add_rows
from projects import project_of
from test_promote import decide, made_model

from annotation.synthetic import synthetic_headlines
from storage.lake.annotations import ingest, labelled_texts
from storage.lake.batches import find_batch, items_of, proposals_of
from storage.lake.evaluation_reserve import RESERVE
from storage.lake.models import promote
from storage.lake.schema import RANK
from storage.lake.slices import by_slice, import_slices, slice_weights, weighted_share
from storage.lake.store import Store
from storage.records import Answer, Batch, Split
from storage.workspace import Workspace
from tasks.config.settings import EvaluationConfig, MinimumsConfig
from tasks.draw_found import draw_found
from tasks.evaluate import evaluate_model
from tasks.find import Search
from tasks.learning.metrics import average_precision
from tasks.learning.model_files import load_model
from tasks.learning.stopping import wilson_interval
from tasks.plan import Plan, reserve_of, signs_of
from tasks.project import Project
from tasks.report import report_of
from tasks.sample import sample_batch

REFRESH = 20


@pytest.fixture
def stream(workspace: Workspace) -> Project:
    """200 texts, 40 of which are to be evaluation items, and 20 of each later slice."""
    add_rows(workspace.store(), [(f"i{k:03}", f"text number {k}") for k in range(200)])
    minimums = MinimumsConfig(evaluation=40, training=40)
    return project_of(workspace, minimums=minimums, evaluation=EvaluationConfig(refresh=REFRESH))


@pytest.fixture
def store(stream: Project) -> Store:
    return stream.workspace.store()


def draw(project: Project, n: int, n_evaluation: int) -> Batch:
    batch_id = sample_batch(project, Plan(Split.TRAINING, n, False, n_evaluation), None, beside_open=True).batch_id
    return find_batch(project.workspace.store(), batch_id).batch


def answer(store: Store, batch_id: str, label: Callable[[str], str]) -> None:
    answers = [Answer(item.item_id, label(item.item_id), "anna") for item in items_of(store, batch_id)]
    ingest(store, batch_id, answers, f"{batch_id}.csv")


def arrive(store: Store, name: str, n: int) -> list[str]:
    """Import n texts; their ids, the lowest rank first."""
    add_rows(store, [(f"{name}{k:03}", f"{name} text {k}") for k in range(n)], f"{name}.csv")
    rows = store.rows(f"SELECT item_id FROM lake.items WHERE source = ? ORDER BY {RANK}", [f"{name}.csv"])
    return [item_id for (item_id,) in rows]


def asked_for_evaluation(store: Store, batch: Batch) -> set[str]:
    return {each.item_id for each in proposals_of(store, batch.batch_id) if each.strategy == RESERVE}


def test_the_lowest_ranks_of_a_later_import_are_evaluation_items_and_never_queried(
    stream: Project, store: Store
) -> None:
    first = draw(stream, 40, 40)
    assert all(share.options == {} for share in first.shares), "one import: as it was before there were slices"
    n = arrive(store, "n", 100)
    assert list(reserve_of(stream).due[:REFRESH]) == n[:REFRESH]
    second = draw(stream, 20, 12)
    assert asked_for_evaluation(store, second) == {*n[:12]}
    m = arrive(store, "m", 30)
    larger = stream.with_config(evaluation=EvaluationConfig(refresh=90))
    due = reserve_of(larger).due
    assert list(due[: 15 + 8]) == m[:15] + n[12:REFRESH], "what an import gives is settled; at most half of a new one"
    assert [each.n for each in import_slices(store)] == [200, 100, 30]
    held_out = {*reserve_of(larger).item_ids}
    assert {*m[:15], *n[:REFRESH]} <= held_out
    found = draw_found(larger, Search("text"), Plan(Split.TRAINING, 3, False), 3)
    assert find_batch(store, found).batch.shares[0].options == {"refresh_below": reserve_below(store, m[14])}
    queried = {item.item_id for item in items_of(store, found)}
    batch = draw(larger, 200, 0)
    queried |= {item.item_id for item in items_of(store, batch.batch_id)}
    assert len(queried) > 100
    assert not queried & held_out
    assert not reserve_of(stream.with_config(evaluation=EvaluationConfig(refresh=0))).refresh_below


def reserve_below(store: Store, item_id: str) -> int:
    return int(store.rows(f"SELECT {RANK} + 1 FROM lake.items WHERE item_id = ?", [item_id])[0][0])


def test_slices_count_by_their_size(stream: Project, store: Store) -> None:
    def label(item_id: str) -> str:
        return "related" if item_id < "i040" or item_id.startswith("n") else "not_related"

    for _ in range(2):
        batch = draw(stream, 20, 20)
        answer(store, batch.batch_id, label)
    old = labelled_texts(store, Split.EVALUATION, store.version())["item_id"].to_pylist()
    assert by_slice(store, old) is None
    assert weighted_share(store, "related") is None
    arrive(store, "n", 50)
    answer(store, draw(stream, 20, 20).batch_id, label)
    ids = labelled_texts(store, Split.EVALUATION, store.version())["item_id"].to_pylist()
    n_old, n_new = (sum(item_id[0] == name for item_id in ids) for name in "in")
    assert (n_old, n_new) == (40, 20)
    sliced = by_slice(store, ids)
    assert sliced.weights == tuple(200 / 250 * 60 / 40 if item_id[0] == "i" else 50 / 250 * 60 / 20 for item_id in ids)
    n_old_positive = sum(label(item_id) == "related" for item_id in old)
    found = weighted_share(store, "related")
    assert found.share == pytest.approx(0.8 * n_old_positive / 40 + 0.2)
    assert found.n_effective == pytest.approx(60**2 / (40 * 1.2**2 + 20 * 0.6**2))
    signs = {sign.name: sign for sign in signs_of(store, stream.label_set)}
    prevalence = signs["positives among random items"]
    assert prevalence.value == pytest.approx(found.share)
    assert (prevalence.low, prevalence.high) == pytest.approx(
        wilson_interval(found.share * found.n_effective, found.n_effective)
    )
    left = signs["positives left in the pool"].value
    assert left == round(found.share * 250 - n_old_positive - 20)


def test_weighted_metrics_are_those_of_all_texts_and_unweighted_ones_are_not() -> None:
    """500 draws of 3,000 texts, 5% positive, and of 300 later ones, half positive, that the model knows less of."""
    generator = np.random.default_rng(0)
    sizes, rates, counts = (3000, 300), (0.05, 0.5), (600, 200)
    truth = np.concatenate([generator.random(n) < rate for n, rate in zip(sizes, rates, strict=True)])
    scores = truth + generator.normal(0, np.repeat([0.4, 2.0], sizes))
    everything = np.ones((1, len(truth)))

    def figures(at: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> list[float]:
        share = float((truth[at] * weights[0]).sum() / weights.sum())
        chosen = scores[at] > 0.5
        right = float(((chosen == truth[at]) * weights[0]).sum() / weights.sum())
        return [share, right, float(average_precision(scores[at], truth[at], weights)[0])]

    of_slices = slice_weights(sizes, counts)
    assert of_slices is not None
    item_weights = np.repeat(of_slices, counts)[None]
    found: list[list[list[float]]] = [[], []]
    for _ in range(500):
        old, new = (generator.permutation(n)[:count] for n, count in zip(sizes, counts, strict=True))
        at = np.concatenate([old, sizes[0] + new])
        for kept, weights in zip(found, (item_weights, np.ones((1, len(at)))), strict=True):
            kept.append(figures(at, weights))
    expected = figures(np.arange(len(truth)), everything)
    weighted, plain = (np.array(kept) for kept in found)
    error = weighted.std(axis=0) / np.sqrt(len(weighted))
    bias = weighted.mean(axis=0) - expected
    assert (np.abs(bias[:2]) < 4 * error[:2]).all(), "shares have no bias"
    plain_bias = np.abs(plain.mean(axis=0) - expected)
    assert (plain_bias > [0.07, 0.04, 0.02]).all()
    assert abs(bias[2]) < plain_bias[2] / 4, "that of AP goes with the number of items"


@pytest.mark.parametrize(
    ("sizes", "counts", "weights"),
    [
        ([100], [30], None),
        ([300, 100], [20, 20], [1.5, 0.5]),
        ([300, 100, 50_000], [20, 20, 3], [43 / 400 * 300 / 20, 43 / 400 * 100 / 23, 43 / 400 * 100 / 23]),
        ([300, 60, 40], [20, 5, 15], [1.5, 0.5, 0.5]),
        ([5, 295, 100], [0, 20, 20], [1.5, 1.5, 0.5]),
        ([300, 100], [0, 0], None),
    ],
)
def test_a_slice_with_few_evaluation_items_counts_with_another(
    sizes: list[int], counts: list[int], weights: list[float] | None
) -> None:
    found = slice_weights(sizes, counts)
    if weights is None:
        assert found is None
        return
    assert found is not None
    assert np.dot(found, counts) == pytest.approx(sum(counts))
    assert all(each is None or one == pytest.approx(each) for one, each in zip(found, weights, strict=True))


SPORT = ["midfielder", "striker", "keeper", "goal", "penalty", "cup"]
OTHER = ["senate", "council", "budget", "tax", "mayor", "vote"]


@pytest.fixture
def changed(
    workspace: Workspace, take_headlines: Callable[..., Any], give_labels: Callable[..., None], reserve_batch: Any
) -> Project:
    """200 evaluation headlines, then a batch, then texts in which another topic is related, 40 of 80."""
    give_labels(workspace, take_headlines(workspace, 200), Split.EVALUATION)
    reserve_batch(workspace, {"x": "a text of the batch between"})
    texts = topic(80)
    add_rows(workspace.store(), [(f"s{k:02}", text) for k, (text, _) in enumerate(texts)], "sport.csv")
    give_labels(workspace, {f"s{k:02}": label for k, (_, label) in enumerate(texts)}, Split.EVALUATION)
    return project_of(workspace)


def topic(n: int, seed: int = 0) -> list[tuple[str, str]]:
    generator = np.random.default_rng(seed)
    sides = [(SPORT, "related"), (OTHER, "not_related")]
    return [
        (f"{' '.join(generator.choice(words, 5))} {seed} {k}", label) for k in range(n // 2) for words, label in sides
    ]


def test_the_newest_texts_decide_and_the_older_ones_are_the_control(changed: Project) -> None:
    headlines = synthetic_headlines(900).slice(400)
    old = list(zip(headlines["text"].to_pylist(), headlines["label"].to_pylist(), strict=True))
    workspace = changed.workspace
    stale = made_model(workspace, "stale", *zip(*old, strict=True))
    narrow = made_model(workspace, "narrow", *zip(*topic(80, 1), strict=True))
    both = made_model(workspace, "both", *zip(*(old + topic(80, 1)), strict=True))
    promote(workspace.store(), stale)
    *taken, reason = decide(changed, both)
    assert taken == [both, True]
    assert "80 items" in reason
    assert "200 older items" in reason
    *kept, reason = decide(changed, stale)
    assert kept == [both, False]
    promote(workspace.store(), narrow)
    assert decide(changed, stale)[:2] == (narrow, False), "better on the older items only"
    promote(workspace.store(), stale)
    assert decide(changed, narrow)[:2] == (narrow, True), "it does not stay because of older items only"
    promote(workspace.store(), both)
    assert decide(changed, narrow)[:2] == (both, False), "no better on the newest and worse on the older ones"


def test_the_report_has_the_metrics_of_each_slice(changed: Project) -> None:
    store, model_id = changed.workspace.store(), made_model(changed.workspace, "m", *zip(*topic(80, 1), strict=True))
    model = load_model(changed.workspace.models / model_id)
    evaluate_model(changed, model)
    promote(store, model_id)
    evaluation = report_of(changed).evaluation
    starts = [f"{each.imports[0]:%Y-%m-%d %H:%M} UTC" for each in import_slices(store)]
    assert [(each.column, each.value, each.n) for each in evaluation.slices] == [
        ("imported", starts[0], 200),
        ("imported", starts[1], 80),
    ]
    ap = [next(metric for metric in each.metrics if metric.name == "ap").value or 0 for each in evaluation.slices]
    assert ap[0] < 0.9 < ap[1]
