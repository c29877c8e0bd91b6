import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import SamplingError
from tasks.learning.tokens import Tokens
from tasks.sampling.mixer import Mixed, find_strategy, mix_strategies, scaled_mix, strategy_names
from tasks.sampling.strategy import Pool

MIX = {"least_confidence": 6, "random": 4, "outlier": 5, "entropy": 3}
mixes = st.dictionaries(st.sampled_from(strategy_names()), st.integers(0, 12)).filter(lambda mix: sum(mix.values()) > 0)


def pool_of(n: int, seed: int = 0, n_labels: int = 2) -> Pool:
    generator = np.random.default_rng(seed)
    texts = [generator.integers(0, 30, generator.integers(0, 6)) for _ in range(n)]
    tokens = Tokens(np.concatenate([np.zeros(0), *texts]).astype(np.uint16), np.cumsum([0, *map(len, texts)]))
    probabilities = generator.dirichlet(np.ones(n_labels), n).astype(np.float32) if n_labels else np.zeros((n, 0))
    item_ids = pa.array([f"i{k:04d}" for k in range(n)], pa.string())
    return Pool(item_ids, tokens, probabilities.astype(np.float32), generator.integers(0, 4, 30).astype(np.float64))


def credited(mixed: Mixed, name: str) -> list[str]:
    """The items that a strategy proposed, by rank."""
    ranked = sorted((p for p in mixed.proposals if p.strategy == name), key=lambda p: p.rank)
    return [p.item_id for p in ranked]


@settings(max_examples=60, deadline=None)
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


def alone(pool: Pool, name: str, n: int, seed: int) -> list[str]:
    """What a strategy finds when nobody else takes part, in the order of its ranking."""
    return credited(mix_strategies(pool, {name: n}, seed), name)


def test_everyone_who_ranked_an_item_within_its_number_is_credited_with_score_and_rank() -> None:
    pool = pool_of(60)
    mixed = mix_strategies(pool, {"least_confidence": 10, "margin_confidence": 10}, 0)
    rankings = {name: alone(pool, name, 20, 0) for name in ("least_confidence", "margin_confidence")}
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
    ranking = alone(pool, "entropy", 50, 3)
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
    total = sum(mix.values())
    assert credited(mixed, "random") == alone(pool, "random", total, 5)[:4]


def test_the_unbiased_share_is_a_fair_sample_of_the_pool() -> None:
    pool = pool_of(20)
    times = dict.fromkeys(pool.item_ids.to_pylist(), 0)
    for seed in range(200):
        for item_id in credited(mix_strategies(pool, {"least_confidence": 8, "random": 4}, seed), "random"):
            times[item_id] += 1
    assert min(times.values()) > 15  # of 40 expected
    assert max(times.values()) < 70


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


def test_a_pool_of_just_the_size_asked_for_is_the_batch() -> None:
    pool = pool_of(18)
    assert set(mix_strategies(pool, MIX, 0).item_ids) == set(pool.item_ids.to_pylist())


def test_a_pool_too_small_says_both_numbers_and_what_to_type() -> None:
    with pytest.raises(SamplingError) as caught:
        mix_strategies(pool_of(17), MIX, 0)
    assert caught.value.what == "17 available / 18 requested."
    assert caught.value.hint == "ask for fewer: pal next -n 17; or add texts: pal import FILE"


def test_an_unknown_strategy_says_so_and_names_those_there_are() -> None:
    with pytest.raises(SamplingError) as caught:
        mix_strategies(pool_of(5), {"randon": 1}, 0)
    assert caught.value.what == "there is no sampling strategy 'randon'."
    assert caught.value.hint == f"choose from: {', '.join(strategy_names())}"


def test_a_strategy_without_a_share_is_not_asked_even_where_it_could_not_run() -> None:
    mixed = mix_strategies(pool_of(5, n_labels=0), {"entropy": 0, "random": 2}, 0)
    assert {p.strategy for p in mixed.proposals} == {"random"}


def test_a_strategy_that_needs_a_model_stops_the_mix_where_there_is_none() -> None:
    with pytest.raises(SamplingError, match="entropy needs a model"):
        mix_strategies(pool_of(5, n_labels=0), {"entropy": 1, "random": 2}, 0)


def test_every_strategy_of_the_registry_can_be_found_by_its_name() -> None:
    assert {"random", "least_confidence", "margin_confidence", "ratio_confidence", "entropy", "outlier"} <= set(
        strategy_names()
    )
    assert [find_strategy(name).name for name in strategy_names()] == list(strategy_names())


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


@given(mixes)
def test_a_mix_scaled_to_its_own_size_stays_as_it_is(mix: dict[str, int]) -> None:
    assert scaled_mix(mix, sum(mix.values())) == mix


def test_the_largest_remainders_get_what_rounding_leaves() -> None:
    # 2.8, 3.5 and 0.7: two are left, for 0.8 and 0.7.
    assert scaled_mix({"a": 4, "b": 5, "c": 1}, 7) == {"a": 3, "b": 3, "c": 1}
    assert scaled_mix({"random": 10, "least_confidence": 80, "outlier": 10}, 1) == {
        "random": 0,
        "least_confidence": 1,
        "outlier": 0,
    }
