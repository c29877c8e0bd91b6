from typing import Any

import numpy as np
import pytest
from figures import figures
from hypothesis import given
from hypothesis import strategies as st
from pools import angles, pool_of_texts, pool_of_vectors, positions, propose, random_pool, tokens_of

import tasks.sampling.mixer  # noqa: F401  (registers the strategies that wrappers call)
from storage.errors import SamplingError
from tasks.sampling.strategies import rare_labels as room
from tasks.sampling.strategies.rare_labels import even_shares
from tasks.sampling.strategy import REGISTRY, Labelled, Picks, Pool, runnable, strategy


def without_model(pool: Pool) -> dict[str, Any]:
    n = len(pool)
    return {"probabilities": np.zeros((n, 0), np.float32), "logits": np.zeros((n, 0), np.float32)}


# max_positive


def test_the_highest_probability_of_the_positive_label_is_first() -> None:
    rows = [[0.1, 0.7, 0.2], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6], [np.nan, 0.0, 0.9]]
    pool = pool_of_texts([[k] for k in range(4)], rows, positive=2)
    ranking = propose("max_positive", pool, 4)
    assert positions(ranking) == [2, 1, 0, 3]
    np.testing.assert_allclose(ranking.scores[:3], [0.6, 0.4, 0.2], rtol=1e-6)
    assert ranking.scores[3] == -np.inf


def test_without_a_positive_label_keywords_stand_in_and_without_those_chance() -> None:
    texts, rows = [[1], [2]], [[0.5, 0.5]] * 2
    assert runnable("max_positive", pool_of_texts(texts, rows, keywords=tokens_of([[1]])))[0].name == "keyword"
    assert runnable("max_positive", pool_of_texts(texts, rows))[0].name == "random"
    assert runnable("max_positive", pool_of_texts(texts, rows, positive=0))[0].name == "max_positive"


# keyword


def test_keyword_worked_by_hand() -> None:
    # Counts as vectors. Keyword 1 is 1 2, keyword 2 is 3.
    # 1 2: cosine 1, contained: 2. 2 1: cosine 1, out of sequence: 1. 5 3: .71 + 1. 1: .71. 6: 0. Without tokens: last.
    pool = pool_of_texts([[2, 1], [5, 3], [6], [], [1, 2], [1]], keywords=tokens_of([[1, 2], [3]]))
    ranking = propose("keyword", pool, 6)
    assert positions(ranking) == [4, 1, 0, 5, 2, 3]
    np.testing.assert_allclose(ranking.scores, [2, 1.7071, 1, 0.7071, 0, -np.inf], rtol=1e-4)
    assert [figures(detail) for detail in ranking.details[:4]] == [["1"], ["2"], ["1.00", "1"], ["0.71", "1"]]


def test_the_keyword_named_is_one_that_is_contained_even_if_another_is_nearer() -> None:
    # Counts 2, 1, 1 of tokens 2, 3, 1: cosine with keyword 1 is 1 / sqrt(6), with keyword 2 it is 3 / sqrt(12) = 0.866.
    ranking = propose("keyword", pool_of_texts([[2, 2, 3, 1]], keywords=tokens_of([[1], [3, 2]])), 1)
    assert [figures(detail) for detail in ranking.details] == [["1"]]
    assert ranking.scores[0] == pytest.approx(1.866, abs=1e-3)


def test_keywords_without_known_tokens_are_passed_over_and_keep_their_number() -> None:
    pool = pool_of_texts([[4], [3]], keywords=tokens_of([[], [3]]))
    ranking = propose("keyword", pool, 2)
    assert ranking.item_ids[0] == "item-0001"
    assert [figures(detail) for detail in ranking.details] == [["2"], ["0.00", "2"]]
    assert np.isneginf(propose("keyword", pool_of_texts([[4], [3]], keywords=tokens_of([[]])), 2).scores).all()


@pytest.mark.parametrize("seed", range(3))
def test_keyword_scores_are_those_of_all_pairs_one_by_one(seed: int) -> None:
    pool = random_pool(60, seed)
    ranking = propose("keyword", pool, 60)
    words = [pool.keywords.slice(k, k + 1).ids.tolist() for k in range(2)]
    wanted = pool.vectors.of(pool.keywords).rows(np.arange(2))
    for position, score in zip(positions(ranking), ranking.scores, strict=True):
        text = pool.tokens.slice(position, position + 1).ids.tolist()
        contains = any(text[k : k + len(word)] == word for word in words for k in range(len(text)))
        cosine = (wanted @ pool.vectors.rows(np.array([position]))[0]).max()
        assert score == (pytest.approx(cosine + contains, abs=1e-5) if text else -np.inf)


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=8), st.lists(st.integers(0, 2), min_size=1, max_size=3)
)
def test_a_run_is_found_within_a_text_and_never_across_two(texts: list[list[int]], run: list[int]) -> None:
    expected = [any(text[k : k + len(run)] == run for k in range(len(text))) for text in texts]
    assert tokens_of(texts).contain(np.array(run, np.uint16)).tolist() == expected


# anchor


def anchored(**more: Any) -> Pool:
    """Items every 10 degrees; training items of label 0 at 0, of label 1 at 90 degrees."""
    n = 19
    p = np.linspace(0.99, 0.51, n)  # the later, the less sure
    training = angles(0, 90)
    pool = pool_of_vectors(angles(*range(0, 190, 10)), training=training, training_labels=[0, 1])
    rows = np.stack([p, 1 - p], axis=1).astype(np.float32)
    return Pool(**{**vars(pool), "probabilities": rows, "logits": np.log(rows), **more})


def test_anchor_worked_by_hand() -> None:
    # The 3 nearest to 0 degrees are 0, 10 and 20 or one of them is level; to 90 they are 80, 90, 100 (positions 8-10).
    # Of those six the least sure are 10, 9, 8, though 11 to 18 are less sure still.
    ranking = propose("anchor", anchored(), 3, neighbours=3)
    assert positions(ranking) == [10, 9, 8]
    assert figures(ranking.details[0]) == ["1", "2", "0.98"]
    assert set(positions(propose("anchor", anchored(), 6, neighbours=3))) == {0, 1, 2, 8, 9, 10}


def test_the_part_is_the_most_similar_of_the_retrieved_and_grows_to_n() -> None:
    assert set(positions(propose("anchor", anchored(), 2, neighbours=3, size=2))) == {0, 9}  # cosine 1 with an anchor
    assert set(positions(propose("anchor", anchored(), 5, neighbours=3, size=2))) <= {0, 1, 2, 8, 9, 10}
    # With one neighbour each only 0 and 9 are retrieved; the next by cosine are 1, 8 and 10, at 10 degrees.
    assert set(positions(propose("anchor", anchored(), 5, neighbours=1, size=2))) == {0, 1, 8, 9, 10}


def test_anchors_are_so_many_per_label_however_rare_it_is() -> None:
    training = Labelled(tokens_of([[k] for k in range(9)]), np.array([0] * 8 + [1]))
    pool = pool_of_texts([[k] for k in range(9)], [[0.6, 0.4]] * 9, training=training)
    ranking = propose("anchor", pool, 2, anchors=1, neighbours=1)
    assert 8 in positions(ranking)
    assert {tuple(figures(detail)[:2]) for detail in ranking.details} == {("1", "2")}
    assert figures(propose("anchor", pool, 9, anchors=8, neighbours=1).details[0])[:2] == ["1", "9"]


def test_without_a_model_anchor_still_runs_and_says_who_stood_in() -> None:
    pool = anchored(**without_model(anchored()))
    ranking = propose("anchor", pool, 4, neighbours=3)
    assert set(positions(ranking)) <= {0, 1, 2, 8, 9, 10}
    (detail,) = set(ranking.details)
    assert all(value in detail for value in ("random", "least_confidence", "model"))


# per_label


PREDICTED = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.55, 0.45], [0.3, 0.7], [0.4, 0.6]]
"""Five items predicted as the first label, two as the second."""


def test_per_label_worked_by_hand() -> None:
    pool = pool_of_texts([[k] for k in range(7)], PREDICTED)
    ranking = propose("per_label", pool, 4)
    assert positions(ranking) == [6, 4, 5, 3]  # the rarer label first, in turns; the least sure of each first
    np.testing.assert_allclose(ranking.scores, [0.8, 0.9, 0.6, 0.8], rtol=1e-5)
    assert [figures(detail) for detail in ranking.details[:2]] == [["2", "2", "2"], ["1", "2", "5"]]


def test_the_remainder_is_the_rarest_labels_and_what_it_lacks_the_others_give() -> None:
    pool = pool_of_texts([[k] for k in range(7)], PREDICTED)
    assert [p >= 5 for p in positions(propose("per_label", pool, 3))] == [True, False, True]
    assert [p >= 5 for p in positions(propose("per_label", pool, 7))] == [True, False, True, False, False, False, False]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.data())
def test_shares_are_as_even_as_the_counts_allow(counts: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, sum(counts)))
    shares = even_shares(np.sort(counts), n)
    assert sum(shares) == n
    for share, count in zip(shares, sorted(counts), strict=True):
        assert 0 <= share <= count
        assert share == count or share >= max(shares) - 1


# both


@pytest.mark.parametrize("name", ["anchor", "per_label"])
def test_a_wrapper_refuses_itself_and_a_name_that_is_none(name: str) -> None:
    with pytest.raises(SamplingError, match=rf"\b{name}\b.*\b{name}\b"):
        propose(name, random_pool(9), 2, score=name)
    with pytest.raises(SamplingError, match="'best'"):
        propose(name, random_pool(9), 2, score="best")


@pytest.mark.parametrize("name", ["anchor", "per_label"])
@pytest.mark.parametrize("n", [1, 7, 25])
def test_a_wrapper_runs_any_other_strategy(name: str, n: int) -> None:
    pool = random_pool(25, 2)
    for other in REGISTRY:
        if other != name:
            ranking = propose(name, pool, n, score=other)
            assert len(set(ranking.item_ids)) == len(ranking.details) == n
            assert not np.isnan(ranking.scores).any()


@pytest.mark.parametrize("name", ["anchor", "per_label"])
def test_a_wrapper_passes_on_the_positions_scores_and_details_of_the_other(name: str) -> None:
    def by_first_token(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
        tokens = pool.tokens.ids[pool.tokens.offsets[:-1]].astype(np.float64)
        best = np.argsort(-tokens)[:n]
        return Picks(best, tokens[best], [f"token {tokens[k]:.0f}" for k in best])

    try:
        strategy(cost="O(n)", source="this test")(by_first_token)
        texts = [[k] for k in np.random.default_rng(0).permutation(30).tolist()]
        pool = pool_of_texts(texts, [[0.6, 0.4], [0.4, 0.6]] * 15, training=Labelled(tokens_of([[1]]), np.array([0])))
        ranking = propose(name, pool, 10, score="by_first_token")
    finally:
        del REGISTRY["by_first_token"]
    for position, score, detail in zip(positions(ranking), ranking.scores, ranking.details, strict=True):
        assert score == texts[position][0]
        assert detail == f"token {texts[position][0]}"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slice_texts", [10, 40_000])
def test_similarity_is_the_mean_cosine_with_the_anchors_that_retrieved_the_item(
    seed: int, slice_texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SLICE_TEXTS", slice_texts)
    monkeypatch.setattr(room, "ANCHORS_AT_ONCE", 4)
    generator = np.random.default_rng(seed)
    vectors = pool_of_vectors(generator.standard_normal((100, 5))).vectors
    directions = generator.standard_normal((6, 5)).astype(np.float32)
    cosines = vectors.products(directions)
    for k in (1, 12, 100):
        nearest = np.zeros((100, 6), bool)
        np.put_along_axis(nearest, np.argsort(-cosines, axis=0)[:k], True, axis=0)
        votes, totals, best = room._retrieved(vectors, directions, k, np.random.default_rng(0))
        np.testing.assert_array_equal(votes, nearest.sum(axis=1))
        np.testing.assert_allclose(totals, (cosines * nearest).sum(axis=1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(best, cosines.max(axis=1), rtol=1e-6)
