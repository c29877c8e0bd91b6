import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors
from tasks.sampling import strategy as room
from tasks.sampling.mixer import find_strategy
from tasks.sampling.strategy import NEEDS, Picks, Pool, runnable, strategy, top, top_picks

values = st.floats(allow_nan=True, allow_infinity=True, width=64)


def pool_of(n: int, n_labels: int = 0) -> Pool:
    tokens = Tokens(np.zeros(0, np.uint16), np.zeros(n + 1, np.int64))
    none = np.zeros((n, n_labels), np.float32)
    return Pool(
        pa.array([f"i{k}" for k in range(n)], pa.string()), TokenVectors(tokens, 1, None), np.zeros(1), none, none
    )


@given(st.lists(values, min_size=1, max_size=40), st.data())
def test_top_gives_the_n_highest_the_highest_first_and_what_is_not_finite_last(
    listed: list[float], data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(listed)))
    scores = np.array(listed)
    before = scores.copy()
    chosen = top(scores, n, np.random.default_rng(0))
    ranked = np.where(np.isfinite(scores), scores, -np.inf)
    assert chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == n
    assert ranked[chosen].tolist() == sorted(ranked, reverse=True)[:n]
    np.testing.assert_array_equal(scores, before)


def test_top_draws_level_ones_in_random_order_and_by_the_generator_given() -> None:
    scores = np.array([1.0, 1.0, 1.0, 1.0, 5.0])
    drawn = {tuple(top(scores, 3, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert len(drawn) == 12  # 4 first level ones x 3 second ones
    assert {positions[0] for positions in drawn} == {4}
    again = [top(scores, 3, np.random.default_rng(7)).tolist() for _ in range(2)]
    assert again[0] == again[1]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry to write into, put back afterwards."""
    monkeypatch.setattr(room, "REGISTRY", dict(room.REGISTRY))


@pytest.mark.usefixtures("registry")
def test_a_decorated_function_is_registered_under_its_name_with_the_first_paragraph_of_its_docstring() -> None:
    @strategy(needs=["model"], substitute="random", unbiased=True, cost="O(1)", source="nobody (1999)")
    def last_first(pool: Pool, n: int, generator: np.random.Generator, *, skip: int = 0) -> Picks:
        """The last item
        first.

        And more.
        """
        return Picks(np.arange(len(pool))[::-1][skip : n + skip], np.zeros(n), ["late"] * n)

    found = room.REGISTRY["last_first"]
    assert (found.name, found.summary) == ("last_first", "The last item first.")
    assert (found.needs, found.substitute, found.unbiased, found.adaptive) == (("model",), "random", True, False)
    assert (found.cost, found.source, found.options) == ("O(1)", "nobody (1999)", {"skip": 0})
    assert last_first(pool_of(3), 1, np.random.default_rng(0)).positions.tolist() == [2]
    ranking = found.propose(pool_of(3, n_labels=2), 2, np.random.default_rng(0))
    assert (ranking.item_ids, ranking.details) == (("i2", "i1"), ("late", "late"))
    assert found.propose(pool_of(3, n_labels=2), 1, np.random.default_rng(0), skip=2).item_ids == ("i0",)


@pytest.mark.usefixtures("registry")
def test_where_a_substitute_cannot_run_its_own_substitute_does() -> None:
    @strategy(needs=["keywords"], substitute="entropy", cost="O(1)", source="nobody (1999)")
    def choosy(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
        """Nothing suits it."""
        raise AssertionError

    found, missing = runnable("choosy", pool_of(3))
    assert found.name == "random"
    assert "[sampling] keywords" in str(missing)
    assert runnable("choosy", pool_of(3, n_labels=2))[0].name == "entropy"
    assert runnable("random", pool_of(3)) == (find_strategy("random"), None)


def test_a_strategy_with_needs_and_no_substitute_cannot_be_registered() -> None:
    with pytest.raises(AssertionError):
        strategy(needs=["model"], cost="O(1)", source="nobody (1999)")


def test_top_picks_gives_what_is_not_finite_the_score_of_minus_infinity() -> None:
    picks = top_picks(np.array([np.nan, 2.0, np.inf, 1.0]), 4, np.random.default_rng(0))
    assert picks.positions[:2].tolist() == [1, 3]
    assert picks.scores.tolist() == [2.0, 1.0, -np.inf, -np.inf]


def test_items_are_found_where_they_stand_whatever_order_they_are_asked_in() -> None:
    pool = pool_of(6).take(np.array([3, 0, 5, 1, 4, 2]))
    assert pool.positions_of(["i2", "i3", "i5"]).tolist() == [5, 0, 2]
    assert pool.positions_of([]).tolist() == []


def test_every_registered_strategy_says_what_it_does_what_it_costs_and_where_it_comes_from() -> None:
    assert list(room.REGISTRY) == [found.name for found in room.REGISTRY.values()]
    for found in room.REGISTRY.values():
        assert found.summary.endswith(".")
        assert found.cost.startswith("O(")
        assert found.source
        assert {*found.needs} <= {*NEEDS}
        assert (found.substitute is None) == (not found.needs)
        assert found.substitute is None or found.substitute in room.REGISTRY
    assert [name for name, found in room.REGISTRY.items() if found.unbiased] == ["random"]
