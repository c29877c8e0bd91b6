import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from figures import figures
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors
from tasks.sampling.catalogue import find_strategy
from tasks.sampling.strategies import outliers as room
from tasks.sampling.strategies.outliers import novelty
from tasks.sampling.strategy import Pool, Ranking

pools = st.lists(st.lists(st.integers(0, 7), max_size=4), min_size=1, max_size=25)
counts_lists = st.lists(st.integers(0, 3), min_size=8, max_size=8)


def pool_of(texts: list[list[int]], counts: npt.ArrayLike) -> Pool:
    ids = np.array([token for text in texts for token in text], np.uint16)
    tokens = Tokens(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64))
    item_ids = pa.array([f"i{k:05d}" for k in range(len(texts))], pa.string())
    none = np.zeros((len(texts), 0), np.float32)
    return Pool(item_ids, TokenVectors(tokens, len(np.array(counts)), None), np.array(counts, np.float64), none, none)


def propose(pool: Pool, n: int, seed: int = 0) -> Ranking:
    return find_strategy("outlier").propose(pool, n, np.random.default_rng(seed))


def assert_greedy(texts: list[list[int]], counts: npt.ArrayLike, ranking: Ranking) -> None:
    """Every score computed anew after each pick: each pick must lead then, with just that score."""
    now = np.array(counts, np.float64)
    left = dict(enumerate(texts))
    for item_id, score in zip(ranking.item_ids, ranking.scores, strict=True):
        fresh = {k: max(len(text), 1) / (1 + sum(now[token] for token in text)) for k, text in left.items()}
        picked = int(item_id[1:])
        assert fresh[picked] == max(fresh.values()) == score
        for token in left.pop(picked):
            now[token] += 1


def test_novelty_worked_by_hand() -> None:
    pool = pool_of([[0, 1], [2], [0, 0, 1], []], [3, 1, 0])
    assert novelty(pool, pool.token_counts).tolist() == [2 / 5, 1.0, 3 / 8, 1.0]


def test_ranking_worked_by_hand() -> None:
    # At first: 3/1, 2/1, 1/(1+4), 2/1. After the first pick (tokens 0 1 2): the second is 2/(1+2), the fourth still 2.
    texts = [[0, 1, 2], [0, 1], [5], [3, 4]]
    ranking = propose(pool_of(texts, [0, 0, 0, 0, 0, 4]), 4)
    assert ranking.item_ids == ("i00000", "i00003", "i00001", "i00002")
    assert ranking.scores.tolist() == [3.0, 2.0, 2 / 3, 1 / 5]


def test_two_near_copies_are_not_both_picked_while_something_else_is_novel() -> None:
    texts = [[0, 1, 2, 3], [0, 1, 2, 4], [5, 6], [7, 8]]
    ranking = propose(pool_of(texts, np.zeros(9)), 3)
    assert len({"i00000", "i00001"} & set(ranking.item_ids)) == 1
    assert {"i00002", "i00003"} < set(ranking.item_ids)


@given(pools, counts_lists, st.data())
def test_it_is_the_greedy_choice_that_computes_everything_anew_after_each_pick(
    texts: list[list[int]], counts: list[int], data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(texts)))
    assert_greedy(texts, counts, propose(pool_of(texts, counts), n))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 40))
def test_it_is_that_also_where_only_some_of_the_pool_are_candidates(seed: int, n: int, n_tokens: int) -> None:
    generator = np.random.default_rng(seed)
    texts = [generator.integers(0, n_tokens, generator.integers(0, 5)).tolist() for _ in range(150)]
    counts = generator.integers(0, 3, n_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "MIN_CANDIDATES", 1)
        assert_greedy(texts, counts, propose(pool_of(texts, counts), n, seed))


def test_it_is_that_where_the_candidates_are_copies_and_the_novel_ones_are_not_among_them() -> None:
    # 2000 copies lead at first, so all 1000 candidates are copies; after one pick everyone else is more novel.
    texts = [[0, 1, 2]] * 2000 + [[10 + k, 10 + k] for k in range(5)]
    counts = np.zeros(20)
    ranking = propose(pool_of(texts, counts), 7)
    assert_greedy(texts, counts, ranking)
    assert set(ranking.item_ids[1:6]) == {f"i{2000 + k:05d}" for k in range(5)}


def test_the_whole_pool_can_be_ranked_beyond_the_number_of_candidates() -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 50, 3).tolist() for _ in range(1200)]
    ranking = propose(pool_of(texts, np.zeros(50)), 1200)
    assert len(set(ranking.item_ids)) == 1200
    assert_greedy(texts, np.zeros(50), ranking)


def test_an_item_without_tokens_has_score_1_and_nothing_to_add_to_the_counts() -> None:
    ranking = propose(pool_of([[], [0], []], [1]), 3)
    assert ranking.scores.tolist() == [1.0, 1.0, 0.5]
    assert ranking.item_ids[2] == "i00001"


def test_the_counts_of_the_training_items_are_left_as_they_were() -> None:
    pool = pool_of([[0, 1], [1]], [2, 5])
    pool.token_counts.flags.writeable = False
    propose(pool, 2)
    assert pool.token_counts.tolist() == [2, 5]


def test_copies_are_level_and_each_is_drawn_by_some_generator() -> None:
    pool = pool_of([[0], [0], [0], [0]], np.zeros(1))
    assert {propose(pool, 1, seed).item_ids for seed in range(60)} == {(f"i{k:05d}",) for k in range(4)}


def test_says_in_words_how_much_is_new() -> None:
    ranking = propose(pool_of([[0, 1, 2], [1], []], [0, 3, 0]), 3)
    assert dict(zip(ranking.item_ids, map(figures, ranking.details), strict=True)) == {
        "i00000": ["2", "3"],
        "i00001": ["0", "1"],
        "i00002": ["0", "0"],
    }
