import numpy as np
import numpy.typing as npt
import pytest
import torch
from figures import figures
from pools import (
    one_token_each,
    pool_of_texts,
    pool_of_vectors,
    positions,
    propose,
    random_pool,
    tokens_of,
)
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tasks.learning.training import Classifier, predict_logits
from tasks.learning.vectors import NetworkVectors, TokenVectors
from tasks.sampling.strategies import model_change as transfer
from tasks.sampling.strategies.model_change import Logistic
from tasks.sampling.strategy import Head, Labelled, Pool, Ranking

Rows = npt.NDArray[np.float64]


def around(axis: int, m: int, seed: int, noise: float = 0.15, width: int = 8) -> Rows:
    """m vectors around a unit vector."""
    return np.eye(width)[[axis] * m] + noise * np.random.default_rng(seed).standard_normal((m, width))


def probability(rows: Rows, yes: npt.ArrayLike, of: Rows) -> npt.NDArray[np.float64]:
    """By scikit-learn: of yes, for the vectors `of`."""
    layer = LogisticRegression(class_weight="balanced", tol=1e-8, solver="newton-cholesky").fit(rows, yes)
    found: npt.NDArray[np.float64] = layer.predict_proba(of)[:, 1]
    return found


def dense(pool: Pool) -> tuple[Rows, Rows, Rows]:
    """Hidden layer of the pool, the training items and the validation items."""
    parts = (pool.hidden, pool.hidden.of(pool.training.tokens), pool.hidden.of(pool.validation.tokens))
    pool_rows, training, validation = (part.rows(np.arange(len(part))).astype(np.float64) for part in parts)
    return pool_rows, training, validation


def wrong_of(pool: Pool) -> npt.NDArray[np.bool_]:
    wrong: npt.NDArray[np.bool_] = pool.validation.logits.argmax(axis=1) != pool.validation.labels
    return wrong


def pool_with_planted_errors() -> Pool:
    """Label 0 lies around axis 0, label 1 around axis 1; what lies around axis 2 is label 0, but said to be label 1.

    Of the pool's 120 items those around axis 2 are the numbers 80 to 119, and the model is sure of all of them.
    """
    weight = np.zeros((2, 8))
    weight[0, 0] = weight[1, 1] = weight[1, 2] = 8
    validation = [around(0, 30, 1), around(1, 30, 2), around(2, 8, 3)]
    pool = np.concatenate([around(axis, 40, 10 + axis) for axis in range(3)])
    return pool_of_vectors(
        pool,
        weight=weight,
        validation=np.concatenate(validation),
        validation_labels=[0] * 30 + [1] * 30 + [0] * 8,
        training=np.concatenate([around(0, 20, 4), around(1, 20, 5)]),
        training_labels=[0] * 20 + [1] * 20,
    )


@pytest.mark.parametrize(("seed", "n_labels"), [(0, 2), (1, 3), (2, 5)])
def test_transfer_uncertainty_agrees_with_scikit_learn_on_the_whole_pool(seed: int, n_labels: int) -> None:
    pool = random_pool(60, seed, n_labels, n_validation=40)
    rows, _, validation = dense(pool)
    expected = probability(validation, wrong_of(pool), rows)
    ranking = propose("transfer_uncertainty", pool, 60)
    np.testing.assert_allclose(ranking.scores, expected[positions(ranking)], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_transfer_representative_agrees_with_scikit_learn(seed: int) -> None:
    pool = random_pool(50, seed, 3, n_training=20)
    rows, training, _ = dense(pool)
    of_pool = np.repeat([False, True], [20, 50])
    ranking = propose("transfer_representative", pool, 50)
    expected = probability(np.concatenate([training, rows]), of_pool, rows)
    np.testing.assert_allclose(ranking.scores, expected[positions(ranking)], atol=1e-4)


def test_the_layer_is_learned_on_so_many_drawn_from_the_pool_and_the_whole_pool_is_scored() -> None:
    pool = pool_with_planted_errors()

    def rankings(candidates: int) -> set[tuple[int, ...]]:
        found = [propose("transfer_representative", pool, 120, seed, candidates=candidates) for seed in range(5)]
        assert all(np.isfinite(ranking.scores).all() for ranking in found)
        return {tuple(positions(ranking)) for ranking in found}

    assert [len(rankings(candidates)) for candidates in (7, 0, 1000)] == [5, 5, 1]


def assert_greedy(pool: Pool, ranking: Ranking, step: int) -> None:
    """Everything computed anew for every pick, by scikit-learn on dense rows: each leads, with just that score."""
    rows, _, validation = dense(pool)
    texts = pool.vectors.rows(np.arange(len(pool))).astype(np.float64)
    alike = np.maximum(texts @ texts.T, 0)
    empty = np.flatnonzero(pool.tokens.lengths == 0)
    alike[np.ix_(empty, empty)] = 1
    picks = positions(ranking)
    for k, (pick, score) in enumerate(zip(picks, ranking.scores, strict=True)):
        if k % step == 0:
            known = np.concatenate([validation, rows[picks[:k]]])
            p_wrong = probability(known, np.append(wrong_of(pool), np.zeros(k, bool)), rows)
        fresh = p_wrong * (1 - (alike[:, picks[:k]].max(axis=1) if k else 0) ** 2)
        assert score == pytest.approx(fresh[pick], abs=2e-4)
        fresh[picks[:k]] = -np.inf
        assert score >= fresh.max() - 2e-4


@pytest.mark.parametrize("step", [1, 3, 10])
@pytest.mark.parametrize("seed", [0, 1])
def test_atlas_is_the_greedy_choice_that_computes_everything_anew(seed: int, step: int) -> None:
    pool = random_pool(40, seed, 3, n_validation=30)
    assert_greedy(pool, propose("atlas", pool, 15, step=step), step)


def test_texts_without_tokens_are_copies_of_each_other() -> None:
    # A table whose first tokens are right and the others wrong; an empty text is even, and there are six of them.
    table = np.array([[1.0, 0], [0, 1]], np.float32)
    validation = Labelled(tokens_of([[0], [1]]), np.array([0, 1]), np.array([[1, 0], [1, 0]], np.float32))
    pool = pool_of_texts([[], [], [], [0], [], [], []], [[0.5, 0.5]] * 7, table=table, validation=validation)
    ranking = propose("atlas", pool, 3)
    assert positions(ranking)[1] == 3
    assert ranking.scores.tolist() == pytest.approx([0.5, 0.401, 0], abs=1e-3)
    assert figures(ranking.details[2]) == ["50", "1.00"]


def test_a_step_below_1_is_1() -> None:
    pool = random_pool(40, n_validation=30)
    assert propose("atlas", pool, 12, step=0).item_ids == propose("atlas", pool, 12, step=1).item_ids


def test_only_the_candidates_most_likely_wrong_at_first_are_chosen_among() -> None:
    pool = pool_with_planted_errors()
    first = set(propose("transfer_uncertainty", pool, 25).item_ids)
    assert set(propose("atlas", pool, 12, candidates=25).item_ids) < first
    assert set(propose("atlas", pool, 25, candidates=0).item_ids) == first
    assert len(set(propose("atlas", pool, 120, candidates=25).item_ids)) == 120


@pytest.mark.parametrize("name", ["transfer_uncertainty", "transfer_representative", "atlas"])
def test_items_whose_hidden_layer_is_not_finite_come_last_with_score_minus_infinity(name: str) -> None:
    generator = np.random.default_rng(0)
    table = generator.standard_normal((12, 3)).astype(np.float32)
    table[[2, 5]] = np.nan
    known = Labelled(one_token_each(6, 12), np.array([0, 1] * 3), np.tile(np.array([1, 0], np.float32), (6, 1)))
    pool = pool_of_texts([[k] for k in range(6)], [[0.5, 0.5]] * 6, table=table, training=known, validation=known)
    ranking = propose(name, pool, 6, **({"step": 1} if name == "atlas" else {}))
    assert set(positions(ranking)[4:]) == {2, 5}
    assert np.isfinite(ranking.scores).tolist() == [True] * 4 + [False] * 2
    assert ranking.scores[5] == -np.inf


@pytest.mark.parametrize("name", ["transfer_uncertainty", "transfer_representative", "atlas"])
def test_a_network_with_a_hidden_layer_of_its_own_is_seen_through_that_layer(name: str) -> None:
    torch.manual_seed(0)
    classifier = Classifier(40, 2, hidden=6)
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 40, 4).tolist() for _ in range(70)]
    known = tokens_of(texts[:40])
    logits = predict_logits(classifier, known)
    labels = np.where(np.arange(40) % 4 == 0, logits.argmin(axis=1), logits.argmax(axis=1))
    labelled = Labelled(known, labels, logits)
    hidden = NetworkVectors(tokens_of(texts[40:]), classifier)
    pool = pool_of_texts(
        texts[40:],
        [[0.5, 0.5]] * 30,
        hidden=hidden,
        training=labelled,
        validation=labelled,
        head=Head(*head_of(classifier)),
    )
    ranking = propose(name, pool, 30)
    rows, training, validation = dense(pool)
    assert rows.shape == (30, 6)
    if name == "atlas":
        assert_greedy(pool, ranking, 10)
        return
    if name == "transfer_uncertainty":
        expected = probability(validation, wrong_of(pool), rows)
    else:
        expected = probability(np.concatenate([training, rows]), np.repeat([False, True], [40, 30]), rows)
    np.testing.assert_allclose(ranking.scores, expected[positions(ranking)], atol=1e-3)


def head_of(classifier: Classifier) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return classifier.head.weight.detach().numpy(), classifier.head.bias.detach().numpy()


def test_where_saturated_the_order_is_still_that_of_the_layer() -> None:
    # Sigmoid of 50 and of 60 are both 1.0 in float64; the item with 60 is asked first whatever the generator draws.
    assert expit(50.0) == expit(60.0)
    table = np.array([[50.0], [60.0], [1.0]], np.float32)
    hidden = NetworkLike(one_token_each(0, 3), 3, table)
    layer = Logistic(np.array([1.0]), 0.0)
    for seed in range(10):
        picks = transfer._most_likely(layer, hidden, 3, np.random.default_rng(seed), "wrong")
        assert picks.positions.tolist() == [1, 0, 2]


class NetworkLike(TokenVectors):
    """Rows of any length."""

    @property
    def norms(self) -> npt.NDArray[np.float32]:
        return np.ones(len(self), np.float32)
