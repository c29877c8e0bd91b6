from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from figures import figures
from pools import one_token_each, pool_of_texts, pool_of_vectors, protected, random_pool, tokens_of
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tasks.learning.training import Classifier, predict_logits
from tasks.learning.vectors import NetworkVectors, TokenVectors
from tasks.sampling.strategies import model_change as transfer
from tasks.sampling.strategies.model_change import Logistic, fit_logistic
from tasks.sampling.strategy import Head, Labelled, Pool, Ranking, find_strategy

Rows = npt.NDArray[np.float64]


def propose(name: str, pool: Pool, n: int, seed: int = 0, **options: int) -> Ranking:
    return find_strategy(name).propose(pool, n, np.random.default_rng(seed), **options)


def numbers(item_ids: Sequence[str]) -> list[int]:
    return [int(item_id[-4:]) for item_id in item_ids]


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
    assert pool.hidden is not None
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


@pytest.mark.parametrize(("name", "n"), [("transfer_uncertainty", 20), ("atlas", 6)])
def test_planted_errors_are_found_where_the_model_is_sure(name: str, n: int) -> None:
    pool = pool_with_planted_errors()
    assert pool.probabilities[80:].max(axis=1).min() > 0.9
    ranking = propose(name, pool, n)
    assert min(numbers(ranking.item_ids)) >= 80
    assert ranking.scores[0] > 0.7


def test_probability_of_wrong_worked_by_hand() -> None:
    # Validation: (1, 0) is right, (0, 1) wrong, each weighing 1. By symmetry the layer is (-a, a) with bias 0, and
    # a^2 + 2 log(1 + e^-a) is least where a = sigmoid(-a): 0.401. So (0, 1) has sigmoid(0.401) = 0.599.
    pool = pool_of_vectors(
        [[1, 0], [0, 1], [1, 1]], weight=[[1, 1], [0, 0]], validation=[[1, 0], [0, 1]], validation_labels=[0, 1]
    )
    ranking = propose("transfer_uncertainty", pool, 3)
    assert numbers(ranking.item_ids) == [1, 2, 0]
    assert ranking.scores.tolist() == pytest.approx([0.599, 0.5, 0.401], abs=1e-3)


@pytest.mark.parametrize(("seed", "n_labels"), [(0, 2), (1, 3), (2, 5)])
def test_transfer_uncertainty_agrees_with_scikit_learn_on_the_whole_pool(seed: int, n_labels: int) -> None:
    pool = random_pool(60, seed, n_labels, n_validation=40)
    rows, _, validation = dense(pool)
    expected = probability(validation, wrong_of(pool), rows)
    ranking = propose("transfer_uncertainty", pool, 60)
    np.testing.assert_allclose(ranking.scores, expected[numbers(ranking.item_ids)], atol=1e-4)


def test_pool_like_worked_by_hand() -> None:
    # Training (1, 0) against pool (0, 1), weighing 1 each: as above.
    pool = pool_of_vectors([[0, 1]], weight=np.eye(2), training=[[1, 0]], training_labels=[0])
    assert propose("transfer_representative", pool, 1).scores.tolist() == pytest.approx([0.599], abs=1e-3)


def test_the_region_that_training_lacks_is_asked_first() -> None:
    ranking = propose("transfer_representative", pool_with_planted_errors(), 30)
    assert min(numbers(ranking.item_ids)) >= 80
    assert ranking.scores[0] > 0.6


@pytest.mark.parametrize("seed", range(3))
def test_transfer_representative_agrees_with_scikit_learn(seed: int) -> None:
    pool = random_pool(50, seed, 3, n_training=20)
    rows, training, _ = dense(pool)
    of_pool = np.repeat([False, True], [20, 50])
    ranking = propose("transfer_representative", pool, 50)
    expected = probability(np.concatenate([training, rows]), of_pool, rows)
    np.testing.assert_allclose(ranking.scores, expected[numbers(ranking.item_ids)], atol=1e-4)


@pytest.mark.parametrize(("candidates", "counted"), [(7, 7), (0, 1), (1000, 120)])
def test_the_layer_is_learned_on_so_many_drawn_from_the_pool_and_the_whole_pool_is_scored(
    candidates: int, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = []

    def noted(rows: npt.NDArray[np.float32], yes: npt.NDArray[np.bool_]) -> Logistic:
        learned.append((rows, yes))
        return fit_logistic(rows, yes)

    monkeypatch.setattr(transfer, "fit_logistic", noted)
    pool = pool_with_planted_errors()
    rows, training, _ = dense(pool)
    drawn = set()
    for seed in range(20):
        ranking = propose("transfer_representative", pool, 120, seed, candidates=candidates)
        assert np.isfinite(ranking.scores).all()
        seen, yes = learned.pop()
        assert yes.tolist() == [False] * 40 + [True] * counted
        np.testing.assert_allclose(seen[:40], training, atol=1e-6)
        distances = np.abs(seen[40:, None] - rows[None]).max(axis=2)
        assert distances.min(axis=1).max() < 1e-6
        assert len(set(distances.argmin(axis=1))) == counted
        drawn |= set(distances.argmin(axis=1))
    assert len(drawn) > 1


def assert_greedy(pool: Pool, ranking: Ranking, step: int) -> None:
    """Everything computed anew for every pick, by scikit-learn on dense rows: each leads, with just that score."""
    rows, _, validation = dense(pool)
    texts = pool.vectors.rows(np.arange(len(pool))).astype(np.float64)
    alike = np.maximum(texts @ texts.T, 0)
    empty = np.flatnonzero(pool.tokens.lengths == 0)
    alike[np.ix_(empty, empty)] = 1
    picks = numbers(ranking.item_ids)
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


def test_atlas_on_word_counts_is_that_too() -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 40, generator.integers(0, 6)).tolist() for _ in range(60)]
    known = tokens_of(texts[:30])
    weight = generator.standard_normal((2, 40)).astype(np.float32)
    logits = TokenVectors(known, 40, None).products(weight)
    labels = np.where(np.arange(30) % 3 == 0, logits.argmin(axis=1), logits.argmax(axis=1))
    pool = pool_of_texts(texts[30:], [[0.5, 0.5]] * 30, validation=Labelled(known, protected(labels), logits))
    assert_greedy(pool, propose("atlas", pool, 30, step=4), 4)


def test_two_near_copies_are_not_both_picked_while_something_else_may_be_wrong() -> None:
    # The three most likely wrong are copies but for a little noise; all ten picks lie within one step.
    pool = pool_with_planted_errors()
    first = dense(pool)[0][numbers(propose("transfer_uncertainty", pool, 1).item_ids)]
    copies = first + 0.01 * np.random.default_rng(0).standard_normal((3, 8))
    with_copies = pool_of_vectors(
        np.concatenate([copies, dense(pool)[0][::4]]),
        weight=pool.head.weight if pool.head else None,
        validation=dense(pool)[2],
        validation_labels=pool.validation.labels.tolist(),
    )
    assert sorted(numbers(propose("transfer_uncertainty", with_copies, 3).item_ids)) == [0, 1, 2]
    for step in (1, 10):
        ranking = propose("atlas", with_copies, 10, step=step)
        assert sum(number < 3 for number in numbers(ranking.item_ids)) == 1
        assert numbers(ranking.item_ids)[0] < 3


def test_texts_without_tokens_are_copies_of_each_other() -> None:
    # A table whose first tokens are right and the others wrong; an empty text is even, and there are six of them.
    table = np.array([[1.0, 0], [0, 1]], np.float32)
    validation = Labelled(tokens_of([[0], [1]]), np.array([0, 1]), np.array([[1, 0], [1, 0]], np.float32))
    pool = pool_of_texts([[], [], [], [0], [], [], []], [[0.5, 0.5]] * 7, table=table, validation=validation)
    ranking = propose("atlas", pool, 3)
    assert numbers(ranking.item_ids)[1] == 3
    assert ranking.scores.tolist() == pytest.approx([0.5, 0.401, 0], abs=1e-3)
    assert figures(ranking.details[2]) == ["50", "1.00"]


def pool_of_two_wrong_regions() -> Pool:
    """Unlike texts (each its own direction) with a hidden layer in which 0 to 19 and 20 to 39 are two wrong regions.

    The first is the surer bet: 12 wrong validation items lie there, and 8 in the second.
    """
    generator = np.random.default_rng(0)
    table = np.concatenate([around(0, 20, 1), around(1, 20, 2), around(0, 12, 3), around(1, 8, 4), around(2, 40, 5)])
    hidden = TokenVectors(one_token_each(0, 40), 120, table.astype(np.float32))
    logits = np.tile(np.array([1.0, 0.0], np.float32), (60, 1))
    labels = np.repeat([1, 0], [20, 40])
    return pool_of_texts(
        [[k] for k in range(40)],
        generator.dirichlet([1, 1], 40),
        n_tokens=120,
        hidden=hidden,
        head=Head(np.zeros((2, 8), np.float32), np.zeros(2, np.float32)),
        validation=Labelled(one_token_each(40, 100), labels, logits),
    )


def test_it_adapts_a_region_with_picks_in_it_is_thought_to_be_learned() -> None:
    # No two texts share a token, so only the fitted layer can move the picks from one region to the other.
    pool = pool_of_two_wrong_regions()
    never_fitted_again = numbers(propose("atlas", pool, 16, step=1000).item_ids)
    assert numbers(propose("transfer_uncertainty", pool, 16).item_ids) == never_fitted_again
    assert sum(number >= 20 for number in never_fitted_again) <= 2
    adapted = propose("atlas", pool, 16, step=2)
    assert sum(number >= 20 for number in numbers(adapted.item_ids)) >= 6
    assert adapted.scores[-1] < adapted.scores[0] - 0.05


def test_a_step_below_1_is_1() -> None:
    pool = pool_of_two_wrong_regions()
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
    assert set(numbers(ranking.item_ids)[4:]) == {2, 5}
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
    np.testing.assert_allclose(ranking.scores, expected[numbers(ranking.item_ids)], atol=1e-3)


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
