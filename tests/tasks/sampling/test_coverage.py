import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from pools import angles, pool_of_texts, pool_of_vectors, positions, propose, random_pool
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from storage.errors import SamplingError
from tasks.learning.vectors import unit
from tasks.sampling.strategies import coverage as room
from tasks.sampling.strategies.coverage import highest_cosines, typicality
from tasks.sampling.strategy import NO_TEXTS


def dense(n: int, seed: int, width: int = 5) -> npt.NDArray[np.float32]:
    return unit(np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32))


# core_set


@pytest.mark.parametrize("leaders", [1, 7, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_core_set_is_the_greedy_k_center_of_the_whole_pool(
    leaders: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LEADERS", leaders)
    monkeypatch.setattr(room, "BLOCK", 2)
    rows, training = dense(200, seed), dense(9, seed + 50)
    pool = pool_of_vectors(rows, training=training, training_labels=[0] * 9)
    centres, expected, heights = training, list[int](), list[float]()
    for _ in range(6):
        distances = euclidean_distances(rows, centres).min(axis=1)
        expected.append(int(distances.argmax()))
        heights.append(float(distances.max()) ** 2 / 2)  # of unit vectors, 1 - cosine
        centres = np.concatenate([centres, rows[expected[-1:]]])
    ranking = propose("core_set", pool, 6)
    assert positions(ranking) == expected
    np.testing.assert_allclose(ranking.scores, heights, atol=1e-5)


def test_core_set_looks_again_where_the_few_it_keeps_up_to_date_lead_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEADERS", 1)
    rows = np.concatenate([np.repeat(angles(180), 40, axis=0), angles(90, 270)])  # 40 copies hold all 20 places
    ranking = propose("core_set", pool_of_vectors(rows, training=angles(0), training_labels=[0]), 3)
    assert positions(ranking)[0] < 40
    assert set(positions(ranking)[1:]) == {40, 41}


def test_core_set_without_training_items_starts_in_the_middle() -> None:
    ranking = propose("core_set", pool_of_vectors(angles(0, 50, 40, 90, 47)), 3)
    assert positions(ranking)[0] == 4  # the mean points to 45.4 degrees
    assert ranking.scores[0] == 2
    assert positions(ranking)[1] == 0  # 47 degrees away, 90 is but 43


def test_core_set_with_fewer_anchors_forgets_training_items_and_with_none_all() -> None:
    pool = pool_of_vectors(angles(0, 90, 180), training=angles(0, 90, 180), training_labels=[0, 0, 0])
    assert propose("core_set", pool, 1).scores[0] == pytest.approx(0, abs=1e-6)
    assert propose("core_set", pool, 1, anchors=1).scores[0] > 0.9
    assert propose("core_set", pool, 1, anchors=0).scores[0] == 2


def test_highest_cosines_are_those_of_all_pairs() -> None:
    pool = random_pool(50, 3, n_training=150)
    others = pool.vectors.of(pool.training.tokens)
    expected = (pool.vectors.rows(np.arange(50)) @ others.rows(np.arange(150)).T).max(axis=1)
    np.testing.assert_allclose(highest_cosines(pool.vectors, others), expected, atol=1e-6)
    assert highest_cosines(pool.vectors, pool.vectors.of(NO_TEXTS)).tolist() == [-1] * 50


# typical_cluster


def test_typicality_among_fewer_than_the_neighbours_asked_for() -> None:
    # Of 0, 60 and 120 degrees: Euclidean distances 1 (60 apart) and sqrt(3) (120 apart).
    vectors = pool_of_vectors(angles(0, 60, 120)).vectors
    generator = np.random.default_rng(0)
    np.testing.assert_allclose(typicality(vectors, 20, generator), [2 / 2.7321, 1, 2 / 2.7321], rtol=1e-4)
    assert typicality(vectors.slice(0, 1), 20, generator).tolist() == [0]


@pytest.mark.parametrize("one_hot", [True, False])
def test_typicality_is_that_of_scikit_learns_neighbours(one_hot: bool) -> None:
    pool = random_pool(80, 5)
    if one_hot:
        pool = pool_of_texts([pool.tokens.slice(k, k + 1).ids.tolist() for k in range(80)])
    vectors = pool.vectors.take(np.flatnonzero(pool.tokens.lengths > 0))
    rows = vectors.rows(np.arange(len(vectors))).astype(np.float64)
    distances, _ = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors()
    np.testing.assert_allclose(
        typicality(vectors, 5, np.random.default_rng(0)), 1 / (1e-5 + distances.mean(axis=1)), rtol=2e-3
    )


def test_in_a_large_cluster_neighbours_are_looked_for_among_some(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pool_of_vectors(dense(90, 1)).vectors
    monkeypatch.setattr(room, "REFERENCES", 30)
    drawn = np.sort(np.random.default_rng(4).choice(90, 30, replace=False))
    distances = euclidean_distances(vectors.rows(np.arange(90)), vectors.rows(drawn))
    distances[drawn, np.arange(30)] = np.inf
    expected = 1 / np.sort(distances, axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(typicality(vectors, 3, np.random.default_rng(4)), expected, rtol=2e-3)


GROUPS = np.concatenate([np.arange(-20, 21, 4), 120 + np.arange(-12, 13, 3), 240 + np.arange(-6, 7, 2)])
"""Three groups of 11, 9 and 7 directions; the middle ones are at 5, 15 and 23."""


def test_the_middle_of_each_group_is_its_most_typical_and_the_largest_group_comes_first() -> None:
    ranking = propose("typical_cluster", pool_of_vectors(angles(*GROUPS)), 3)
    assert positions(ranking) == [5, 15, 23]
    assert figures(ranking.details[0]) == ["1", "11", "0"]
    assert ranking.scores[2] > ranking.scores[1] > ranking.scores[0]  # the smaller group is the denser


def test_clusters_with_fewer_training_items_come_first_and_picks_count_as_labelled() -> None:
    pool = pool_of_vectors(angles(*GROUPS), training=angles(0, 1, 120), training_labels=[0, 0, 0])
    ranking = propose("typical_cluster", pool, 5, max_clusters=3)
    groups = np.searchsorted([11, 20], positions(ranking), side="right")
    # Labelled 2, 1, 0: the third until it is level with the second (1, 1: the larger), again the third, then all level.
    assert groups.tolist() == [2, 1, 2, 0, 1]


def test_small_clusters_come_last() -> None:
    pool = pool_of_vectors(angles(*np.linspace(-5, 5, 6), 175, 178, 180, 182, 185))
    ranking = propose("typical_cluster", pool, 8, max_clusters=2)
    assert set(positions(ranking)[:6]) == set(range(6))


def test_only_candidates_are_looked_at_and_the_rest_follow() -> None:
    pool = pool_of_vectors(dense(50, 0))
    ranking = propose("typical_cluster", pool, 50, candidates=20)
    assert np.isfinite(ranking.scores).sum() == 20
    assert np.isneginf(ranking.scores[20:]).all()
    assert len(set(ranking.details[20:])) == 1
    assert "random" in ranking.details[20]


# probability_cover


def test_probability_cover_worked_by_hand() -> None:
    # Within 25 degrees (1 - cos = 0.094): of 20 are 0 and 40; 100 and 110 of each other; 200 of itself alone.
    pool = pool_of_vectors(angles(0, 20, 40, 100, 110, 200))
    ranking = propose("probability_cover", pool, 6, radius=0.094)
    assert positions(ranking)[0] == 1
    assert positions(ranking)[1] in (3, 4)
    assert positions(ranking)[2] == 5
    np.testing.assert_allclose(ranking.scores, [3 / 6, 2 / 6, 1 / 6, 0, 0, 0])
    assert figures(ranking.details[0]) == ["3", "6"]
    # All are covered: 0 and 40 are 20 degrees from the nearest pick, the last of 100 and 110 is 10.
    assert set(positions(ranking)[3:5]) == {0, 2}


@pytest.mark.parametrize("seed", range(4))
def test_each_pick_covers_the_most_that_is_left(seed: int) -> None:
    rows, training = dense(300, seed, 3), dense(4, seed + 9, 3)
    pool = pool_of_vectors(rows, training=training, training_labels=[0] * 4)
    near = rows @ rows.T >= 0.9
    uncovered = ~((rows @ training.T >= 0.9).any(axis=1))
    many = propose("probability_cover", pool, 25, radius=0.1)
    for position, score in zip(positions(many), many.scores, strict=True):
        counts = (near & uncovered[:, None]).sum(axis=0)
        assert counts[position] == counts.max() == round(score * 300)
        uncovered &= ~near[:, position]


def test_a_wider_radius_covers_more_with_one_pick_and_candidates_bound_what_is_counted() -> None:
    pool = pool_of_vectors(dense(300, 0, 3))
    narrow, wide = (propose("probability_cover", pool, 1, radius=r).scores[0] for r in (0.02, 0.5))
    assert narrow < wide
    few = propose("probability_cover", pool, 40, candidates=17)
    assert figures(few.details[0])[-1] == "17"
    assert len(set(few.item_ids)) == 40


@pytest.mark.parametrize("radius", [0.0, 1.0, -0.1])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    with pytest.raises(SamplingError, match=rf"radius.* {radius}"):
        propose("probability_cover", random_pool(5), 2, radius=radius)
