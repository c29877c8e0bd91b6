import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_texts, random_pool, tokens_of

from storage.errors import SamplingError
from storage.records import Share
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors
from tasks.sampling import mixer
from tasks.sampling import strategy as room
from tasks.sampling.mixer import Mixed, find_strategy, mix_strategies, scaled_mix, strategy_names
from tasks.sampling.strategy import Picks, Pool, strategy

MIX = {"least_confidence": 6, "random": 4, "outlier": 5, "entropy": 3}
mixes = st.dictionaries(st.sampled_from(strategy_names()), st.integers(0, 12)).filter(lambda mix: sum(mix.values()) > 0)


def pool_of(n: int, seed: int = 0, n_labels: int = 2) -> Pool:
    """n items on which every strategy can run, none level with or like another; no model where there are no labels."""
    pool = random_pool(n, seed, n_labels or 2)
    texts = [[k, *text] for k, text in enumerate(_texts(pool.tokens), start=40)]
    given = pool.vectors._table  # type: ignore[attr-defined]
    table = np.concatenate([given, np.random.default_rng(seed).standard_normal((n, 8))])
    vectors = TokenVectors(tokens_of(texts), len(table), table.astype(np.float32))
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(n_labels or 2), n).astype(np.float32)
    pool = dataclasses.replace(
        pool,
        vectors=vectors,
        hidden=vectors,
        token_counts=np.concatenate([pool.token_counts, np.zeros(n)]),
        probabilities=probabilities.reshape(n, -1),
    )
    if n_labels:
        return pool
    none = np.zeros((n, 0), np.float32)
    return dataclasses.replace(pool, probabilities=none, logits=none, hidden=None, head=None)


def _texts(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[start:stop].tolist() for start, stop in itertools.pairwise(tokens.offsets)]


def credited(mixed: Mixed, name: str) -> list[str]:
    """The items that a strategy proposed, by rank."""
    ranked = sorted((p for p in mixed.proposals if p.strategy == name), key=lambda p: p.rank)
    return [p.item_id for p in ranked]


@settings(max_examples=60)
@given(mixes, st.integers(0, 1000), st.integers(0, 30), st.sampled_from([2, 3]))
def test_a_batch_is_exactly_the_sum_of_the_mix_of_different_pool_items_each_credited(
    mix: dict[str, int], seed: int, spare: int, n_labels: int
) -> None:
    pool = pool_of(sum(mix.values()) + spare, seed, n_labels)
    mixed = mix_strategies(pool, mix, seed)
    assert len(mixed.item_ids) == len(set(mixed.item_ids)) == sum(mix.values())
    assert set(mixed.item_ids) <= set(pool.item_ids.to_pylist())
    assert {p.item_id for p in mixed.proposals} == set(mixed.item_ids)
    assert len({(p.item_id, p.strategy) for p in mixed.proposals}) == len(mixed.proposals)
    for name, number in mix.items():
        assert len(credited(mixed, name)) >= number


def ranking_of(pool: Pool, name: str, n: int) -> list[str]:
    """What a strategy without random choices finds by itself."""
    return list(find_strategy(name).propose(pool, n, np.random.default_rng(0)).item_ids)


def test_everyone_who_ranked_an_item_within_its_number_is_credited_with_score_and_rank() -> None:
    pool = pool_of(60)
    mixed = mix_strategies(pool, {"least_confidence": 10, "margin_confidence": 10}, 0)
    rankings = {name: ranking_of(pool, name, 20) for name in ("least_confidence", "margin_confidence")}
    assert rankings["least_confidence"] == rankings["margin_confidence"]  # two labels: they agree on everything
    assert credited(mixed, "least_confidence") == rankings["least_confidence"][:10]
    assert credited(mixed, "margin_confidence") == rankings["margin_confidence"]  # its ten, and ten more to fill up
    by_strategy = {(p.item_id, p.strategy): p for p in mixed.proposals}
    best = rankings["least_confidence"][0]
    position = pool.item_ids.to_pylist().index(best)
    p1, p2 = np.sort(pool.probabilities[position])[::-1].astype(float)
    assert by_strategy[best, "least_confidence"].rank == by_strategy[best, "margin_confidence"].rank == 1
    assert by_strategy[best, "least_confidence"].score == pytest.approx(2 * (1 - p1))
    assert by_strategy[best, "margin_confidence"].score == pytest.approx(1 - (p1 - p2))


def test_an_item_taken_by_one_strategy_is_replaced_by_the_next_of_the_others_ranking() -> None:
    pool = pool_of(80)
    mixed = mix_strategies(pool, {"random": 30, "entropy": 20}, 3)
    taken = set(credited(mixed, "random"))
    ranking = ranking_of(pool, "entropy", 50)
    assert taken & set(ranking[:20])  # else there is nothing to see
    fresh = [item_id for item_id in ranking if item_id not in taken][:20]
    assert set(mixed.item_ids) == taken | set(fresh)
    assert set(credited(mixed, "entropy")) == set(fresh) | set(ranking[:20])
    ranks = {p.item_id: p.rank for p in mixed.proposals if p.strategy == "entropy"}
    assert all(ranking[rank - 1] == item_id for item_id, rank in ranks.items())


@pytest.mark.parametrize("mix", [MIX, dict(reversed(MIX.items())), {"entropy": 40, "random": 4}])
def test_the_unbiased_share_goes_first_and_is_exactly_its_own_draw_whoever_else_takes_part(mix: dict[str, int]) -> None:
    pool = pool_of(100)
    mixed = mix_strategies(pool, mix, 5)
    own = [p for p in mixed.proposals if p.strategy == "random"]
    assert [p.rank for p in own] == [1, 2, 3, 4]
    assert credited(mixed, "random") == credited(mix_strategies(pool, {"random": 4}, 5), "random")


def test_the_same_seed_gives_the_same_batch_in_the_same_order_and_another_seed_another() -> None:
    first, again, other = (mix_strategies(pool_of(100), MIX, seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first.item_ids) != set(other.item_ids)


def test_the_order_shown_is_shuffled_so_that_it_does_not_tell_who_proposed_what() -> None:
    pool = pool_of(200)
    mixed = mix_strategies(pool, {"random": 30, "least_confidence": 30}, 0)
    places = sorted(mixed.item_ids.index(item_id) for item_id in credited(mixed, "random"))
    assert places != list(range(30))
    assert 20 < np.mean(places) < 40


def test_one_strategy_does_not_change_what_another_finds() -> None:
    pool = pool_of(100)
    with_two = credited(mix_strategies(pool, {"outlier": 5, "entropy": 5}, 0), "outlier")
    with_other = credited(mix_strategies(pool, {"outlier": 5, "ratio_confidence": 5}, 0), "outlier")
    assert with_two == with_other


def test_a_pool_too_small_says_both_numbers_and_what_to_type() -> None:
    with pytest.raises(SamplingError) as caught:
        mix_strategies(pool_of(17), MIX, 0)
    assert all(number in caught.value.what for number in ("17", "18"))
    assert all(command in caught.value.hint for command in ("-n 17", "pal import FILE"))


def test_a_strategy_without_a_share_is_not_asked_even_where_it_could_not_run() -> None:
    mixed = mix_strategies(pool_of(5, n_labels=0), {"entropy": 0, "random": 2}, 0)
    assert {p.strategy for p in mixed.proposals} == {"random"}


def test_a_strategy_that_cannot_run_gives_its_number_to_its_substitute_and_the_batch_says_so() -> None:
    mixed = mix_strategies(pool_of(30, n_labels=0), {"entropy": 6, "outlier": 2, "random": 3}, 0)
    assert {name: len(credited(mixed, name)) for name in ("random", "outlier", "entropy")} == {
        "random": 9,
        "outlier": 2,
        "entropy": 0,
    }
    assert mixed.shares == (
        Share("entropy", 6, "random", mixed.shares[0].missing),
        Share("outlier", 2, "outlier"),
        Share("random", 3, "random"),
    )


@pytest.mark.usefixtures("registry")
def test_options_reach_the_strategy_and_the_batch_says_which_it_ran_with() -> None:
    @strategy(cost="O(1)", source="nobody (1999)")
    def backwards(pool: Pool, n: int, generator: np.random.Generator, *, skip: int = 0, why: str = "none") -> Picks:
        """The last ones."""
        return Picks(np.arange(len(pool))[::-1][skip : n + skip], np.zeros(n))

    mixed = mix_strategies(pool_of(30), {"backwards": 2}, 0, {"backwards": {"skip": 3}})
    assert sorted(mixed.item_ids) == ["item-0025", "item-0026"]
    assert mixed.shares == (Share("backwards", 2, "backwards", None, {"skip": 3, "why": "none"}),)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry to write into, put back afterwards."""
    for module in (room, mixer):
        if hasattr(module, "REGISTRY"):
            monkeypatch.setattr(module, "REGISTRY", dict(room.REGISTRY))


# Items 0 and 1 share 4 of 5 distinct tokens (0.8), 2 and 3 share 3 of 5 (0.6); 4 and 5 have no tokens.
LIKE = [[1, 2, 3, 4], [4, 3, 2, 1, 1, 5], [6, 7, 8, 9], [6, 7, 8, 10], [], []]


def uncertain_first(texts: list[list[int]]) -> Pool:
    """A pool in which the first item is the least certain, the second the next ..."""
    p = 0.5 + np.arange(len(texts)) / (2 * len(texts))
    return pool_of_texts(texts, np.stack([p, 1 - p], axis=1))


def test_near_duplicates_are_passed_over_for_the_next_of_the_ranking() -> None:
    mixed = mix_strategies(uncertain_first(LIKE), {"least_confidence": 3}, 0)
    assert sorted(mixed.item_ids) == ["item-0000", "item-0002", "item-0003"]  # 1 is like 0; 3 not enough like 2
    ranks = {p.item_id: p.rank for p in mixed.proposals}
    assert ranks == {"item-0000": 1, "item-0002": 3, "item-0003": 4}


def test_near_duplicates_are_taken_where_there_is_nothing_else() -> None:
    assert len(mix_strategies(uncertain_first(LIKE), {"least_confidence": 6}, 0).item_ids) == 6
    found = mix_strategies(uncertain_first([[1, 2, 3]] * 40), {"least_confidence": 3}, 0).item_ids
    assert set(found) == {"item-0000", "item-0001", "item-0002"}


def test_texts_without_tokens_are_no_duplicates_of_each_other() -> None:
    pool = uncertain_first([[], [], [], [1]])
    assert set(mix_strategies(pool, {"entropy": 2}, 0).item_ids) == {"item-0000", "item-0001"}


def test_a_near_duplicate_of_what_another_strategy_took_is_passed_over_as_well() -> None:
    texts = [[1, 2, 3, k] for k in (4, 4, 5, 6)] + [[k] for k in range(7, 40)]
    pool = uncertain_first(texts)
    mixed = mix_strategies(pool, {"least_confidence": 1, "margin_confidence": 1}, 0)
    assert set(mixed.item_ids) == {"item-0000", "item-0002"}
    assert len(credited(mixed, "margin_confidence")) == 2


def test_the_unbiased_share_keeps_near_duplicates() -> None:
    pool = uncertain_first([[1, 2, 3]] * 20 + [[4]])
    own = credited(mix_strategies(pool, {"random": 10}, 0), "random")
    assert len(own) == 10


def test_a_strategy_whose_best_are_all_alike_is_asked_for_more_until_enough_are_not() -> None:
    pool = uncertain_first([[1, 2, 3]] * 15 + [[k] for k in range(4, 10)])
    mixed = mix_strategies(pool, {"entropy": 5}, 0)
    assert sorted(mixed.item_ids) == ["item-0000", "item-0015", "item-0016", "item-0017", "item-0018"]


@pytest.mark.usefixtures("registry")
def test_a_pool_of_near_copies_is_not_ranked_whole_again_and_again() -> None:
    asked: list[int] = []

    @strategy(cost="O(1)", source="nobody (1999)")
    def first_ones(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
        """The first ones."""
        asked.append(n)
        return Picks(np.arange(n), np.zeros(n))

    mixed = mix_strategies(uncertain_first([[1, 2, 3]] * 900), {"first_ones": 10}, 0)
    assert len(mixed.item_ids) == 10
    assert asked == [10, 20, 40]


def test_a_score_that_is_not_finite_is_no_number_in_the_batch() -> None:
    pool = uncertain_first([[1], [2]])
    rows = np.array([[np.nan, 0.5], [0.7, 0.3]], np.float32)
    mixed = mix_strategies(dataclasses.replace(pool, probabilities=rows), {"entropy": 2}, 0)
    assert {p.item_id: p.score is None for p in mixed.proposals} == {"item-0000": True, "item-0001": False}


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), min_size=1, max_size=9).filter(
        lambda m: any(m.values())
    ),
    st.integers(0, 10**6),
)
def test_a_scaled_mix_adds_up_exactly_and_is_within_one_of_each_share(mix: dict[str, int], n: int) -> None:
    scaled = scaled_mix(mix, n)
    assert list(scaled) == list(mix)
    assert sum(scaled.values()) == n
    for name, number in mix.items():
        assert abs(scaled[name] - number * n / sum(mix.values())) < 1
        assert number or not scaled[name]


def test_the_largest_remainders_get_what_rounding_leaves() -> None:
    # 2.8, 3.5 and 0.7: two are left, for 0.8 and 0.7.
    assert scaled_mix({"a": 4, "b": 5, "c": 1}, 7) == {"a": 3, "b": 3, "c": 1}
    assert scaled_mix({"random": 10, "least_confidence": 80, "outlier": 10}, 1) == {
        "random": 0,
        "least_confidence": 1,
        "outlier": 0,
    }
