"""Who is asked what: shared out evenly whatever the numbers, every pair as often, gold only where it is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.batch import assign, with_gold
from storage.records import Assignment

PEOPLE = ("anna", "ben", "cleo", "dora", "erik", "finn")


def items(n: int) -> list[str]:
    return [f"i{k}" for k in range(n)]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def who_of(assignments: Sequence[Assignment]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in assignments:
        found.setdefault(each.item_id, []).append(each.annotator)
    return found


def asked_of(assignments: Sequence[Assignment], annotator: str) -> list[str]:
    return [each.item_id for each in assignments if each.annotator == annotator]


@st.composite
def teams(draw: st.DrawFn) -> tuple[tuple[str, ...], int]:
    people = PEOPLE[: draw(st.integers(1, len(PEOPLE)))]
    return people, draw(st.integers(1, len(people)))


@given(teams(), st.integers(0, 40), st.integers(0, 9))
def test_every_item_is_asked_of_as_many_different_people_and_all_get_as_many_give_or_take_one(
    team: tuple[tuple[str, ...], int], n: int, seed: int
) -> None:
    people, overlap = team
    found = assign(items(n), people, overlap, generator(seed))
    who = who_of(found)
    assert list(who) == items(n)
    assert all(len(set(names)) == len(names) == overlap for names in who.values())
    load = [len(asked_of(found, name)) for name in people]
    assert sum(load) == n * overlap
    assert max(load) - min(load) <= 1
    for name in people:
        assert asked_of(found, name) == [item for item in items(n) if name in who[item]], "in the order of the items"
    assert not any(each.gold for each in found)


@pytest.mark.parametrize("n_people", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(3))
def test_every_pair_of_annotators_meets_about_as_often(n_people: int, seed: int) -> None:
    people = PEOPLE[:n_people]
    found = assign(items(240), people, 2, generator(seed))
    met = Counter(tuple(sorted(names)) for names in who_of(found).values())
    times = [met[pair] for pair in combinations(people, 2)]
    assert max(times) - min(times) <= 3, "by chance it would be 10 and more"


def test_the_same_seed_gives_the_same_and_another_one_others() -> None:
    found = [assign(items(20), PEOPLE, 2, generator(seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_the_odd_items_do_not_always_go_to_the_first_annotators() -> None:
    firsts = {assign(["i0"], PEOPLE, 1, generator(seed))[0].annotator for seed in range(60)}
    assert firsts == set(PEOPLE)


@given(teams(), st.integers(1, 20), st.data())
def test_who_answered_an_item_is_asked_again_only_where_there_are_too_few_others(
    team: tuple[tuple[str, ...], int], n: int, data: st.DataObject
) -> None:
    people, overlap = team
    before = {item: data.draw(st.sets(st.sampled_from((*people, "somebody else")))) for item in items(n)}
    for item, names in who_of(assign(items(n), people, overlap, generator(), before)).items():
        assert len(set(names)) == overlap
        n_again = len(set(names) & before[item])
        assert n_again == max(0, overlap - len(set(people) - before[item]))


# Gold


@given(
    st.integers(0, 30), st.floats(0, 1), st.lists(st.sampled_from([f"g{k}" for k in range(12)]), unique=True), st.data()
)
def test_gold_is_at_its_rate_new_to_its_annotator_and_leaves_the_own_items_in_their_order(
    n: int, rate: float, settled: list[str], data: st.DataObject
) -> None:
    people = PEOPLE[:3]
    own = assign(items(n), people, 2, generator())
    known = {item: data.draw(st.sets(st.sampled_from(people))) for item in settled[::2]}
    found = with_gold(own, settled, rate, generator(data.draw(st.integers(0, 5))), known)
    assert sorted(map(repr, (each for each in found if not each.gold))) == sorted(map(repr, own))
    for name in people:
        mine = [each for each in found if each.annotator == name]
        gold = [each.item_id for each in mine if each.gold]
        fresh = [item for item in settled if name not in known.get(item, ())]
        assert [each.item_id for each in mine if not each.gold] == asked_of(own, name)
        assert len(set(gold)) == len(gold) == min(round(rate * len(asked_of(own, name))), len(fresh))
        assert set(gold) <= set(fresh)


def test_gold_items_are_drawn_and_placed_at_random_for_each_annotator() -> None:
    settled = [f"g{k}" for k in range(40)]
    own = assign(items(40), PEOPLE[:2], 1, generator())
    drawn: Counter[str] = Counter()
    places: Counter[int] = Counter()
    for seed in range(50):
        found = with_gold(own, settled, 0.2, generator(seed), {})
        gold = {name: [e.item_id for e in found if e.annotator == name and e.gold] for name in PEOPLE[:2]}
        assert gold["anna"] != gold["ben"]
        drawn.update(gold["anna"])
        places.update(k for k, each in enumerate(each for each in found if each.annotator == "anna") if each.gold)
    assert drawn.keys() == set(settled)
    assert places.keys() == set(range(24)), "first and last too"
    assert max(places.values()) < 3 * 50 * 4 / 24
