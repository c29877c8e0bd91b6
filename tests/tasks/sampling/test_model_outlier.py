import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_texts, pool_of_vectors, propose, protected, random_pool, tokens_of

from tasks.sampling.strategies import outliers  # noqa: F401  (registers them)
from tasks.sampling.strategies.outliers import logit_percentiles
from tasks.sampling.strategies.uncertainty import uncertainty
from tasks.sampling.strategy import Labelled, Pool

small_numbers = st.integers(-4, 4).map(lambda k: k / 2)


def pool_of_logits(
    logits: npt.ArrayLike, validation: npt.ArrayLike, probabilities: npt.ArrayLike | None = None
) -> Pool:
    """A pool of which only the logits matter, and the probabilities: by default all labels are level."""
    given_logits, known = np.array(logits, np.float32), np.array(validation, np.float32)
    n, n_labels = given_logits.shape
    p = np.full((n, n_labels), 1 / n_labels) if probabilities is None else probabilities
    labels = np.zeros(len(known), np.int64)
    held = Labelled(tokens_of([[0]] * len(known)), protected(labels), protected(known))
    return dataclasses.replace(
        pool_of_texts([[k % 40] for k in range(n)], p, validation=held), logits=protected(given_logits)
    )


def percentile_by_hand(value: float, known: list[float]) -> float:
    """One value, by its definition."""
    below, level = sum(each < value for each in known), sum(each == value for each in known)
    if level:
        return (below + level / 2) / len(known)
    if below in (0, len(known)):
        return below / len(known)
    lower, upper = max(each for each in known if each < value), min(each for each in known if each > value)
    p_lower, p_upper = percentile_by_hand(lower, known), percentile_by_hand(upper, known)
    return p_lower + (p_upper - p_lower) * (value - lower) / (upper - lower)


@given(st.lists(small_numbers, min_size=1, max_size=12), st.lists(small_numbers, min_size=1, max_size=8))
def test_percentiles_are_those_of_the_definition_label_by_label(known: list[float], values: list[float]) -> None:
    shifted = [value + 0.125 for value in values]
    logits = np.array([values, shifted], np.float32).T
    found = logit_percentiles(logits, np.array([known, known], np.float32).T)
    for column, of_label in enumerate((values, shifted)):
        expected = [percentile_by_hand(value, known) for value in of_label]
        np.testing.assert_allclose(found[:, column], expected, atol=1e-12)


def test_ranking_worked_by_hand() -> None:
    # Percentiles among (0, 10) and (0, 10), each 1/4 and 3/4:
    # item 0: 1/4 and 3/4, score 1/2; item 1: 0 and 0, score 1; item 2: 1 and 1/2, score 1/4; item 3: 0 and 1/4: 7/8.
    pool = pool_of_logits([[0, 10], [-1, -1], [11, 5], [-1, 0]], [[0, 10], [10, 0]])
    ranking = propose("model_outlier", pool, 4)
    assert ranking.item_ids == ("item-0001", "item-0003", "item-0000", "item-0002")
    assert ranking.scores.tolist() == [1, 0.875, 0.5, 0.25]
    assert figures(ranking.details[1]) == ["25"]


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 5]))
def test_scores_are_1_less_the_mean_percentile_over_labels(seed: int, n_labels: int) -> None:
    pool = random_pool(25, seed, n_labels)
    ranking = propose("model_outlier", pool, 25)
    for item_id, score in zip(ranking.item_ids, ranking.scores, strict=True):
        row = pool.logits[int(item_id[-4:])]
        known = pool.validation.logits
        mean = np.mean([percentile_by_hand(row[label], known[:, label].tolist()) for label in range(n_labels)])
        assert score == pytest.approx(1 - mean, abs=1e-6)


def test_items_whose_logits_are_not_finite_come_last_with_score_minus_infinity() -> None:
    pool = pool_of_logits([[np.nan, 0], [5, 5], [0, np.inf], [-np.inf, 0]], [[0, 1], [1, 0]])
    ranking = propose("model_outlier", pool, 4)
    assert ranking.item_ids[0] == "item-0001"
    assert ranking.scores.tolist() == [0, -np.inf, -np.inf, -np.inf]
    assert figures(ranking.details[3]) == []


def test_validation_logits_that_are_not_finite_are_nobodys_reference() -> None:
    sound = [[0, 3], [1, 2], [2, 1]]
    with_broken = pool_of_logits([[0.5, 1.5], [9, 2]], [*sound, [np.nan, np.inf]])
    expected = propose("model_outlier", pool_of_logits([[0.5, 1.5], [9, 2]], sound), 2)
    found = propose("model_outlier", with_broken, 2)
    assert found.item_ids == expected.item_ids
    np.testing.assert_array_equal(found.scores, expected.scores)
    nothing_sound = pool_of_logits([[0.5, 1.5], [9, 2]], [[np.nan, np.nan]])
    assert propose("model_outlier", nothing_sound, 2).scores.tolist() == [-np.inf, -np.inf]


def uncertain_pool() -> Pool:
    """100 items: the 10 of odd tens are the most uncertain; the other 90 are all quieter than any of them."""
    p = np.full(100, 0.99)
    p[5::10] = 0.6
    logits = np.full((100, 2), -50.0)
    logits[5::10] = np.arange(10)[:, None]
    return pool_of_logits(logits, [[0, 0], [9, 9]], np.stack([p, 1 - p], axis=1))


def test_only_the_most_uncertain_are_looked_at() -> None:
    ranking = propose("uncertain_model_outlier", uncertain_pool(), 3)
    assert ranking.item_ids == ("item-0005", "item-0015", "item-0025")  # logits 0, 1, 2: the lowest of those ten
    assert ranking.scores.tolist() == pytest.approx([1 - 1 / 4, 1 - (1 / 4 + 1 / 18), 1 - (1 / 4 + 2 / 18)])
    assert len(ranking.details) == 3


def test_the_share_says_how_many_but_never_fewer_than_asked_for() -> None:
    pool = uncertain_pool()
    uncertain = {f"item-{k:04d}" for k in range(5, 100, 10)}
    assert set(propose("uncertain_model_outlier", pool, 2, share=0.02).item_ids) < uncertain
    assert set(propose("uncertain_model_outlier", pool, 10, share=0.0).item_ids) == uncertain
    assert not set(propose("uncertain_model_outlier", pool, 3, share=1.0).item_ids) & uncertain
    assert len(set(propose("uncertain_model_outlier", pool, 100, share=0.1).item_ids)) == 100
    assert len(propose("uncertain_model_outlier", pool, 3, share=7.0).item_ids) == 3


@pytest.mark.parametrize("seed", range(5))
def test_it_is_model_outlier_on_the_part_of_the_pool_that_is_most_uncertain(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, known = generator.standard_normal((200, 6)), generator.standard_normal((30, 6))
    pool = pool_of_vectors(
        rows, weight=generator.standard_normal((3, 6)), validation=known, validation_labels=[0, 1, 2] * 10
    )
    part = pool.take(np.argsort(-uncertainty(pool), kind="stable")[:40])
    expected = propose("model_outlier", part, 12)
    found = propose("uncertain_model_outlier", pool, 12, share=0.2)
    assert set(found.item_ids) <= set(part.item_ids.to_pylist())
    np.testing.assert_array_equal(found.scores, expected.scores)
