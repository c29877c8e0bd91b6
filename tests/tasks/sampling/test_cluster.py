import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from pools import angles, pool_of_texts, pool_of_vectors, positions, propose, random_pool, tokens_of

from tasks.sampling.strategies import clusters as room
from tasks.sampling.strategies.clusters import spherical_kmeans
from tasks.sampling.strategy import Labelled, Pool, Ranking

# Two bundles of directions in the plane, in degrees. Of the first 8 is nearest to the mean direction (8.3) and 30
# farthest, of the second 94 is nearest (96.5) and 110 farthest.
BUNDLES = [0, 2, 4, 6, 8, 30, 90, 92, 94, 110]
ROUNDS_OF_BUNDLES = [0.6, 0.4, -0.4, -0.6, -1.4, -1.6, -2.4, -2.6, -3.4, -4.4]


def dense(pool: Pool) -> npt.NDArray[np.float64]:
    return pool.vectors.rows(np.arange(len(pool))).astype(np.float64)


def with_uncertainty(pool: Pool, uncertainty: npt.ArrayLike) -> Pool:
    """Two labels such that least confidence is just that."""
    second = np.array(uncertainty, np.float32) / 2
    return dataclasses.replace(pool, probabilities=np.stack([1 - second, second], axis=1))


def assert_bundles(ranking: Ranking) -> None:
    assert positions(ranking)[:4] == [4, 8, 5, 9]
    np.testing.assert_allclose(ranking.scores, ROUNDS_OF_BUNDLES)
    assert [position >= 6 for position in positions(ranking)[4:]] == [False, True, False, True, False, False]
    assert [ranking.details[k].split()[0] for k in (0, 3, 4)] == ["center", "outlier", "member"]
    assert figures(ranking.details[0]) == ["1", "2", "6", "1.00"]
    assert figures(ranking.details[3]) == ["2", "2", "4", "0.97"]
    assert figures(ranking.details[4])[:3] == ["1", "2", "6"]


@pytest.mark.parametrize("seed", range(4))
def test_cluster_worked_by_hand(seed: int) -> None:
    assert_bundles(propose("cluster", pool_of_vectors(angles(*BUNDLES)), 10, seed))


def test_a_centre_is_the_nearest_and_an_outlier_the_farthest_of_its_cluster() -> None:
    for seed in range(5):
        pool = random_pool(50, seed)
        rows, known = dense(pool), pool.tokens.lengths > 0
        labels = spherical_kmeans(pool.vectors, 4, np.random.default_rng(seed)).labels
        ranking = propose("cluster", pool, 20, seed)
        for label in range(4):
            mean = rows[labels == label].sum(axis=0)
            cosines = np.where((labels == label) & known, rows @ mean / np.linalg.norm(mean), np.nan)
            own = [position for position in positions(ranking) if labels[position] == label and known[position]]
            np.testing.assert_allclose(cosines[own[0]], np.nanmax(cosines), atol=1e-5)
            np.testing.assert_allclose(cosines[own[1]], np.nanmin(cosines), atol=1e-5)
            share = np.isfinite(cosines).sum() / 50
            found = ranking.scores[np.isin(positions(ranking), own)]
            np.testing.assert_allclose(found, share - np.arange(len(own)))


def test_the_rest_of_a_cluster_is_asked_at_random() -> None:
    pool = pool_of_vectors(angles(*BUNDLES[:6]))
    thirds = [positions(propose("cluster", pool, 3, seed, per_cluster=6))[2] for seed in range(60)]
    assert set(thirds) == {0, 1, 2, 3}


def test_what_a_small_cluster_lacks_the_others_fill() -> None:
    pool = pool_of_vectors(angles(0, 1, 2, 3, 4, 5, 6, 7, 90))
    ranking = propose("cluster", pool, 9, per_cluster=5)
    assert sorted(positions(ranking)) == list(range(9))
    assert positions(ranking)[1] == 8
    assert ranking.scores[1] == pytest.approx(1 / 9)
    assert ranking.details[8].startswith("member")
    assert figures(ranking.details[8])[:3] == ["1", "2", "8"]


@pytest.mark.parametrize(("n", "per_cluster", "centres"), [(20, 5, 4), (21, 5, 5), (6, 5, 2), (12, 3, 4), (4, 0, 4)])
def test_there_are_as_many_clusters_as_the_option_says(n: int, per_cluster: int, centres: int) -> None:
    pool = pool_of_texts([[k] for k in range(30)])
    details = propose("cluster", pool, n, per_cluster=per_cluster).details
    assert sum(detail.startswith("center") for detail in details) == centres


def test_there_are_never_more_clusters_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_CLUSTERS", 3)
    details = propose("cluster", pool_of_texts([[k] for k in range(30)]), 30).details
    assert sum(detail.startswith("center") for detail in details) == 3


def test_clustered_uncertainty_clusters_the_most_uncertain_tenth() -> None:
    sure = np.random.default_rng(0).integers(0, 360, 90).tolist()
    uncertainty = [0.5 + 0.01 * k for k in range(10)] + [0.49] * 90
    pool = with_uncertainty(pool_of_vectors(angles(*BUNDLES + sure)), uncertainty)
    assert_bundles(propose("clustered_uncertainty", pool, 10))


@pytest.mark.parametrize(
    ("share", "n", "size"), [(0.1, 10, 10), (0.25, 5, 25), (0.0, 7, 7), (0.01, 20, 20), (9, 8, 100)]
)
def test_the_share_is_of_the_pool_and_at_least_as_many_as_are_asked_for(share: float, n: int, size: int) -> None:
    pool = with_uncertainty(pool_of_vectors(np.ones((100, 2))), np.random.default_rng(1).permutation(100) / 100)
    most = set(np.argsort(-pool.probabilities[:, 1])[:size].tolist())
    ranking = propose("clustered_uncertainty", pool, n, share=share)
    assert set(positions(ranking)) <= most
    assert figures(ranking.details[0])[:3] == ["1", "1", str(size)]


@pytest.mark.parametrize("seed", range(4))
def test_representative_cluster_worked_by_hand(seed: int) -> None:
    # Centres at 4 and 94 degrees, the training item at 0. At 98: cos 4 - cos 98 = 0.998 + 0.139; at 94: 1 + 0.070;
    # at 90: 0.998 - 0. At 8: 0.998 - 0.990; at 4: 1 - 0.998; at 0: 0.998 - 1.
    pool = pool_of_vectors(angles(0, 4, 8, 90, 94, 98), training=angles(0), training_labels=[0])
    ranking = propose("representative_cluster", pool, 6, seed, clusters=2)
    assert positions(ranking) == [5, 2, 4, 1, 3, 0]
    np.testing.assert_allclose(ranking.scores, [1.1367, 0.0073, 1.0698, 0.0024, 0.9976, -0.0024], atol=1e-4)
    first, _, *rest = figures(ranking.details[0])  # its place, the cluster, and the numbers of it
    assert (first, rest) == ("1", ["2", "3", "1.00", "-0.14"])


def test_representative_cluster_takes_the_best_of_each_cluster_in_turn() -> None:
    for seed in range(5):
        pool, generator = random_pool(50, seed), np.random.default_rng(seed)
        of_pool = spherical_kmeans(pool.vectors, 4, generator)
        of_training = spherical_kmeans(pool.vectors.of(pool.training.tokens), 4, generator)
        rows = dense(pool)
        scores = (rows @ of_pool.centroids.T).max(axis=1) - (rows @ of_training.centroids.T).max(axis=1)
        best = [np.sort(scores[(of_pool.labels == label) & rows.any(axis=1)])[::-1] for label in range(4)]
        ranking = propose("representative_cluster", pool, 8, seed, clusters=4)
        for turn in (0, 1):
            expected = sorted((own[turn] for own in best), reverse=True)
            np.testing.assert_allclose(ranking.scores[4 * turn : 4 * turn + 4], expected, atol=1e-5)
        np.testing.assert_allclose(ranking.scores, scores[positions(ranking)], atol=1e-5)


def test_high_uncertainty_cluster_worked_by_hand() -> None:
    # Means: tokens 1 and 2 (0.9 + 0.5) / 2 = 0.7, where what is not finite does not count; tokens 5 and 6 0.6.
    pool = pool_of_texts([[1, 2], [1, 2], [1, 2], [5, 6], [5, 6]])
    pool = with_uncertainty(pool, [0.9, 0.5, np.nan, 1.0, 0.2])
    ranking = propose("high_uncertainty_cluster", pool, 5)
    assert set(ranking.item_ids[:2]) == {"item-0000", "item-0001"}
    assert set(ranking.item_ids[2:4]) == {"item-0003", "item-0004"}
    np.testing.assert_allclose(ranking.scores, [0.7, 0.7, 0.6, 0.6, -np.inf], atol=1e-6)
    assert figures(ranking.details[0])[-3:] == ["2", "2", "0.700"]


def test_high_uncertainty_cluster_asks_random_members_sure_ones_too() -> None:
    pool = with_uncertainty(pool_of_texts([[1]] * 4 + [[2]] * 9), [1.0, 0.1, 0.9, 0.8, *[0.5] * 9])
    firsts = {propose("high_uncertainty_cluster", pool, 1, seed).item_ids for seed in range(60)}
    assert firsts == {(f"item-{k:04d}",) for k in range(4)}


def test_high_uncertainty_cluster_agrees_with_means_over_dense_labels() -> None:
    for seed in range(5):
        pool = random_pool(60, seed)
        labels = spherical_kmeans(pool.vectors, 6, np.random.default_rng(seed)).labels
        doubt, known = 2 * (1 - pool.probabilities.max(axis=1)), pool.tokens.lengths > 0
        means = {label: doubt[(labels == label) & known].mean() for label in set(labels[known].tolist())}
        ranking = propose("high_uncertainty_cluster", pool, int(known.sum()), seed, clusters=6)
        expected = [means[label] for label in labels[positions(ranking)].tolist()]
        np.testing.assert_allclose(ranking.scores, expected, atol=1e-6)
        assert (np.diff(expected) <= 1e-12).all()


@pytest.mark.parametrize("name", ["representative_cluster", "high_uncertainty_cluster"])
@pytest.mark.parametrize(("clusters", "made"), [(0, 1), (-2, 1), (3, 3), (500, 12)])
def test_as_many_clusters_are_made_as_the_option_says_and_at_least_one(name: str, clusters: int, made: int) -> None:
    training = Labelled(tokens_of([[1], [30]]), np.zeros(2, np.int64))
    pool = pool_of_texts([[k] for k in range(12)], [[0.6, 0.4]] * 12, training=training)
    assert f" of {made} (" in propose(name, pool, 12, clusters=clusters).details[0]
