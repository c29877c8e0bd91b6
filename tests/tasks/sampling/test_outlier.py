import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_texts, propose

from tasks.sampling.strategies import outliers as room
from tasks.sampling.strategy import Pool, Ranking

pools = st.lists(st.lists(st.integers(0, 7), max_size=4), min_size=1, max_size=25)
counts_lists = st.lists(st.integers(0, 3), min_size=8, max_size=8)


def pool_of(texts: list[list[int]], counts: npt.ArrayLike) -> Pool:
    return pool_of_texts(texts, counts=counts, n_tokens=len(np.array(counts)))


def assert_greedy(texts: list[list[int]], counts: npt.ArrayLike, ranking: Ranking) -> None:
    """Every score computed anew after each pick: each pick must lead then, with just that score."""
    now = np.array(counts, np.float64)
    left = dict(enumerate(texts))
    for item_id, score in zip(ranking.item_ids, ranking.scores, strict=True):
        fresh = {k: max(len(text), 1) / (1 + sum(now[token] for token in text)) for k, text in left.items()}
        picked = int(item_id[-4:])
        assert fresh[picked] == max(fresh.values()) == score
        for token in left.pop(picked):
            now[token] += 1


@given(pools, counts_lists, st.data())
def test_it_is_the_greedy_choice_that_computes_everything_anew_after_each_pick(
    texts: list[list[int]], counts: list[int], data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(texts)))
    assert_greedy(texts, counts, propose("outlier", pool_of(texts, counts), n))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 40))
def test_it_is_that_also_where_only_some_of_the_pool_are_candidates(seed: int, n: int, n_tokens: int) -> None:
    generator = np.random.default_rng(seed)
    texts = [generator.integers(0, n_tokens, generator.integers(0, 5)).tolist() for _ in range(150)]
    counts = generator.integers(0, 3, n_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "MIN_CANDIDATES", 1)
        assert_greedy(texts, counts, propose("outlier", pool_of(texts, counts), n, seed))


def test_it_is_that_where_the_candidates_are_copies_and_the_novel_ones_are_not_among_them() -> None:
    # 2000 copies lead at first, so all 1000 candidates are copies; after one pick everyone else is more novel.
    texts = [[0, 1, 2]] * 2000 + [[10 + k, 10 + k] for k in range(5)]
    counts = np.zeros(20)
    ranking = propose("outlier", pool_of(texts, counts), 7)
    assert_greedy(texts, counts, ranking)
    assert set(ranking.item_ids[1:6]) == {f"item-{2000 + k:04d}" for k in range(5)}


def test_the_whole_pool_can_be_ranked_beyond_the_number_of_candidates() -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 50, 3).tolist() for _ in range(1200)]
    ranking = propose("outlier", pool_of(texts, np.zeros(50)), 1200)
    assert len(set(ranking.item_ids)) == 1200
    assert_greedy(texts, np.zeros(50), ranking)


def test_says_in_words_how_much_is_new() -> None:
    ranking = propose("outlier", pool_of([[0, 1, 2], [1], []], [0, 3, 0]), 3)
    assert dict(zip(ranking.item_ids, map(figures, ranking.details), strict=True)) == {
        "item-0000": ["2", "3"],
        "item-0001": ["0", "1"],
        "item-0002": ["0", "0"],
    }
