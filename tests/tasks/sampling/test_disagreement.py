import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from pools import pool_of_texts, pool_of_vectors, positions, propose, random_pool
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors

from storage.errors import SamplingError
from tasks.sampling.strategies import disagreement as room
from tasks.sampling.strategy import Labelled, Pool, Ranking

SURE = np.array([[99, 0]], np.float32)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    exponents = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def vectors_pool(n: int = 60, n_labels: int = 3, temperature: float = 1.7, n_training: int = 40) -> Pool:
    """Points in 6 dimensions, no two at the same cosine to a third."""
    generator = np.random.default_rng(n)
    return pool_of_vectors(
        generator.standard_normal((n, 6)),
        weight=4 * generator.standard_normal((n_labels, 6)),
        bias=generator.standard_normal(n_labels),
        temperature=temperature,
        training=generator.standard_normal((n_training, 6)),
        training_labels=generator.integers(0, n_labels, n_training).tolist(),
    )


def dropped_predictions(
    pool: Pool, samples: int, dropout: float, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Item by item, mask by mask on dense rows: probabilities (n, samples, n_labels)."""
    masks = generator.random((samples, pool.hidden.width)) >= dropout
    rows = pool.hidden.rows(np.arange(len(pool)))
    return np.array([
        [softmax((pool.head.weight @ (row * mask / (1 - dropout)) + pool.head.bias) / pool.head.temperature)
         for mask in masks]
        for row in rows
    ])  # fmt: skip


def brute_information(pool: Pool, samples: int, dropout: float, generator: np.random.Generator) -> list[float]:
    predictions = dropped_predictions(pool, samples, dropout, generator)
    return [entropy(item.mean(axis=0)) - np.mean([entropy(p) for p in item]) for item in predictions]


@pytest.mark.parametrize(("samples", "dropout"), [(10, 0.5), (3, 0.75), (1, 0.2), (4, 0.0)])
def test_bald_is_what_it_is_item_by_item_and_mask_by_mask(samples: int, dropout: float) -> None:
    pool = vectors_pool()
    expected = np.array(brute_information(pool, samples, dropout, np.random.default_rng(3)))
    ranking = propose("bald", pool, 60, 3, samples=samples, dropout=dropout, batch="top")
    np.testing.assert_allclose(ranking.scores, expected[positions(ranking)], atol=1e-6)
    np.testing.assert_allclose(ranking.scores, -np.sort(-expected), atol=1e-6)
    assert figures(ranking.details[0]) == [f"{ranking.scores[0]:.3f}"]


@pytest.mark.parametrize(("batch", "beta"), [("power", 1.0), ("power", 8.0), ("softmax", 20.0)])
def test_noise_for_each_item_is_added_to_beta_times_the_information_or_its_logarithm(batch: str, beta: float) -> None:
    pool = vectors_pool()
    generator = np.random.default_rng(3)
    information = np.array(brute_information(pool, 10, 0.5, generator))
    expected = beta * (np.log(information) if batch == "power" else information) + generator.gumbel(size=60)
    ranking = propose("bald", pool, 60, 3, batch=batch, beta=beta)
    assert positions(ranking) == np.argsort(-expected).tolist()
    np.testing.assert_allclose(ranking.scores, expected[positions(ranking)], atol=1e-3)


def test_what_has_no_information_is_last_under_power() -> None:
    pool = pool_of_vectors([[1, 0], [0, 1], [1, 1]], weight=[[40, 0], [0, 0]])
    ranking = propose("bald", pool, 3, samples=2)  # [0, 1] says (0.5, 0.5) under every mask
    assert ranking.item_ids[2] == "item-0001"
    assert ranking.scores[2] < np.log(1e-12) + 10


@pytest.mark.parametrize(
    ("options", "value", "hint"),
    [
        ({"batch": "joint"}, "'joint'", "top, power, softmax"),
        ({"beta": 0.0}, "0.0", "beta"),
        ({"samples": 0}, "samples = 0", "1"),
        ({"dropout": 1.0}, "dropout = 1.0", "1"),
        ({"dropout": -0.1}, "dropout = -0.1", "0"),
    ],
)
def test_options_that_cannot_be_are_named_with_what_can(options: dict[str, Any], value: str, hint: str) -> None:
    with pytest.raises(SamplingError) as caught:
        propose("bald", random_pool(5), 2, **options)
    assert value in caught.value.what
    assert hint in caught.value.hint


def brute_changes(pool: Pool, samples: int, dropout: float, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    labels = dropped_predictions(pool, samples, dropout, generator).argmax(axis=2)
    return np.array(
        [sum(label != p.argmax() for label in row) for row, p in zip(labels, pool.probabilities, strict=True)]
    )


@pytest.mark.parametrize(("samples", "dropout"), [(3, 0.75), (5, 0.5), (1, 0.3), (2, 0.75)])
def test_with_few_that_change_the_most_changed_follow_and_of_those_the_most_uncertain(
    samples: int, dropout: float
) -> None:
    pool = vectors_pool()
    changes = brute_changes(pool, samples, dropout, np.random.default_rng(5))
    sure = pool.probabilities.max(axis=1)
    ranking = propose("drop_query", pool, 60, 5, samples=samples, dropout=dropout)
    assert len(set(changes.tolist())) > 1
    assert positions(ranking) == sorted(range(60), key=lambda k: (-changes[k], sure[k]))
    np.testing.assert_array_equal(ranking.scores, changes[positions(ranking)] / samples)
    assert figures(ranking.details[0]) == [str(changes.max()), str(samples)]
    n = int((changes > samples / 2).sum()) + 3
    assert positions(propose("drop_query", pool, n, 5, samples=samples, dropout=dropout)) == positions(ranking)[:n]


def three_bunches() -> Pool:
    """180 items near three axes; of each bunch some change their label when dimensions 3 to 5 are left out."""
    generator = np.random.default_rng(4)
    centres = np.repeat(10 * np.eye(3, 6), 60, axis=0)
    return pool_of_vectors(
        centres + generator.standard_normal((180, 6)), weight=[[0, 0, 0, 9, 9, 9], [1, 1, 1, 0, 0, 0]]
    )


def sizes_said(ranking: Ranking) -> list[int]:
    return [int(detail.split("central to ")[1].split()[0]) for detail in ranking.details]


def test_drop_query_asks_the_item_nearest_the_centroid_of_each_bunch_of_those_that_change() -> None:
    pool = three_bunches()
    changing = np.flatnonzero(brute_changes(pool, 3, 0.75, np.random.default_rng(1)) > 1.5)
    rows = pool.vectors.rows(np.arange(180))
    expected = []
    for bunch in range(3):
        members = changing[changing // 60 == bunch]
        assert 3 < len(members) < 60
        expected.append(members[(rows[members] @ rows[members].sum(axis=0)).argmax()])
    ranking = propose("drop_query", pool, 3, 1)
    assert sorted(positions(ranking)) == expected
    assert sum(sizes_said(ranking)) == len(changing)


def test_of_equal_share_the_larger_cluster_is_first_and_just_half_of_the_masks_is_too_few() -> None:
    pool = three_bunches()
    changes = brute_changes(pool, 2, 0.75, np.random.default_rng(1))
    assert (changes == 1).sum() > 5
    ranking = propose("drop_query", pool, 3, 1, samples=2)
    assert ranking.scores.tolist() == [1, 1, 1]
    assert sum(sizes_said(ranking)) == (changes == 2).sum()
    assert sizes_said(ranking) == sorted(sizes_said(ranking), reverse=True)
    assert len(set(sizes_said(ranking))) > 1


def test_only_as_many_that_change_as_there_may_be_candidates_are_clustered() -> None:
    ranking = propose("drop_query", three_bunches(), 3, 1, candidates=7)
    assert sum(sizes_said(ranking)) == 7
    assert len(propose("drop_query", three_bunches(), 9, 1, candidates=0).item_ids) == 9


def test_where_those_that_change_are_copies_one_of_them_comes_first_and_the_rest_are_filled_in() -> None:
    pool = pool_of_vectors([[0.6, 0.8]] * 8 + [[1, 0]] * 4, weight=[[1, 0], [0, 1]])
    ranking = propose(
        "drop_query", pool, 6, samples=1, dropout=0.5
    )  # the mask is [1, 0]: the second dimension is left out
    assert set(positions(ranking)) < set(range(8))
    assert len(set(positions(ranking))) == 6
    assert ["8" in figures(detail) for detail in ranking.details] == [True] + [False] * 5


def brute_contrast(pool: Pool, items: list[int], anchors: list[int], neighbours: int) -> list[float]:
    """scikit-learn finds the neighbours, SciPy the divergences."""
    known = pool.vectors.of(pool.training.tokens).rows(np.array(anchors))
    p_known = softmax(pool.training.logits[anchors] / pool.head.temperature)
    found = NearestNeighbors(n_neighbors=neighbours, metric="cosine", algorithm="brute").fit(known)
    near = found.kneighbors(pool.vectors.rows(np.array(items)), return_distance=False)
    return [
        float(np.mean([entropy(p_known[k], pool.probabilities[item]) for k in row]))
        for item, row in zip(items, near, strict=True)
    ]


def test_contrastive_worked_by_hand() -> None:
    # The nearest training item of both items is the second, [0, 1], with p = (0.2, 0.8).
    # [1, 2]: KL = 0.2 ln(0.2 / 0.2) + ... = 0; [-1, 2] has p = (0.5, 0.5): 0.2 ln 0.4 + 0.8 ln 1.6 = 0.1927.
    pool = pool_of_vectors(
        [[1, 2], [-1, 2]], weight=[[1, 0], [0, 0]], training=[[1, 0], [0, 1]], training_labels=[0, 1]
    )
    pool = dataclasses.replace(
        pool,
        probabilities=np.array([[0.2, 0.8], [0.5, 0.5]], np.float32),
        training=dataclasses.replace(pool.training, logits=np.array([[5, 0], [0, np.log(4)]], np.float32)),
    )
    ranking = propose("contrastive", pool, 2, neighbours=1)
    assert ranking.item_ids == ("item-0001", "item-0000")
    np.testing.assert_allclose(ranking.scores, [0.1927, 0], atol=1e-4)
    assert figures(ranking.details[0]) == ["0.89"]


@pytest.mark.parametrize(
    ("neighbours", "at_once", "n_training"),
    [(10, 250, 40), (1, 250, 40), (10, 7, 40), (3, 1, 40), (40, 7, 40), (10, 250, 4)],
)
def test_contrastive_is_what_scikit_learn_and_scipy_make_of_it(
    neighbours: int, at_once: int, n_training: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "ANCHORS_AT_ONCE", at_once)
    pool = vectors_pool(n_training=n_training)
    every = list(range(n_training))
    expected = np.array(brute_contrast(pool, list(range(60)), every, min(neighbours, n_training)))
    ranking = propose("contrastive", pool, 60, neighbours=neighbours)
    assert positions(ranking) == np.argsort(-expected).tolist()
    np.testing.assert_allclose(ranking.scores, -np.sort(-expected), rtol=1e-4)


def test_contrastive_looks_only_at_candidates_and_anchors_drawn() -> None:
    pool = vectors_pool(n_training=10)
    ranking = propose("contrastive", pool, 5, candidates=5)
    assert positions(ranking) != positions(propose("contrastive", pool, 5))
    by_set = {
        anchors: brute_contrast(pool, positions(ranking), list(anchors), 2)
        for anchors in itertools.combinations(range(10), 2)
    }
    few = propose("contrastive", pool, 5, candidates=5, anchors=2)
    assert set(few.item_ids) == set(ranking.item_ids)
    matching = [found for found in by_set.values() if np.allclose(sorted(found), sorted(few.scores), rtol=1e-4)]
    assert len(matching) == 1


def test_a_prediction_without_any_doubt_has_a_finite_score() -> None:
    pool = pool_of_texts([[1], [1]], [[1, 0], [0, 1]], training=Labelled(pool_of_texts([[1]]).tokens, logits=SURE))
    np.testing.assert_allclose(propose("contrastive", pool, 2).scores, [-np.log(1e-7), 0], atol=1e-5)
