"""The plan of nights adds up; its figures in docs/scale.md are those that it prints."""

from dataclasses import replace
from pathlib import Path

import pytest
from scale_plan import BLOCK, Measured, Prices, makespan, night, once, shard_sizes, table

MILLION = 1_000_000
EVEN = replace(Measured(), spread=0.0, straggling=0.0)
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.mark.parametrize(("n_items", "n_workers"), [(1, 1), (BLOCK, 3), (1_000_001, 8), (100 * MILLION, 8)])
def test_shards_are_whole_blocks_and_hold_every_item_once(n_items, n_workers):
    sizes = shard_sizes(n_items, n_workers)
    assert sum(sizes) == n_items
    assert all(size % BLOCK == 0 for size in sizes[:-1])
    assert max(sizes) <= 32 * BLOCK


def test_each_worker_does_its_own_shards_one_after_another():
    assert makespan([3, 1, 1, 1], 2) == 4
    assert makespan([3, 1, 1, 1], 1) == 6


def test_the_shards_of_a_killed_worker_are_begun_again_by_whoever_is_free_first():
    assert makespan([4, 2, 2, 4, 2, 2], 3, lost_s=1.0) == 9, "killed at 4; from 5 on the other two take 4 s each"
    assert makespan([2, 9], 2, lost_s=1.0) == 11, "the other is busy until 9"


def test_without_chance_a_night_is_what_its_constants_say():
    found = night(10 * MILLION, 1, EVEN, Prices(), runs=2)
    assert found.seconds == pytest.approx(10 + 10 * (0.5 + 0.25 + 2 * 0.45))
    assert found.seconds == found.late_s
    assert (found.killed_s, found.worker_mb) == (None, None)
    assert found.coordinator_mb == pytest.approx(600 + 10 * (70 + 100))
    assert found.dollars == pytest.approx(0.05 * found.seconds / 3600), "2.3 GB come with one core"
    two = night(10 * MILLION, 2, EVEN, Prices(), runs=2)
    kept = 10 - 4.194304  # of three shards the first worker has the first and the last
    assert two.seconds == pytest.approx(10 + 5 + 1.15 * kept)
    assert two.killed_s > two.seconds
    assert (two.coordinator_mb, two.worker_mb) == pytest.approx((1300, 600 + 100 * kept))


def test_the_page_shows_what_the_plan_prints():
    page = PAGE.read_text(encoding="utf-8")
    sizes = [10**power for power in (6, 7, 8, 9)]
    assert table(sizes, [1, 8, 64], Measured(), Prices(), 25) in page, (
        "print it again: python tests/benchmarks/scale_plan.py"
    )
    assert once(sizes, [1, 8, 64], Measured()) in page
    for constant in ("0.5", "0.25", "0.45", "3.4", "2.0"):
        assert constant in page
