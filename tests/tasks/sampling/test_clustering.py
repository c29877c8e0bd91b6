import numpy as np
import numpy.typing as npt
import pytest
from pools import tokens_of
from sklearn.cluster import MiniBatchKMeans

from tasks.learning.vectors import TokenVectors, unit
from tasks.sampling.strategies.clusters import Clusters, assign, plus_plus, spherical_kmeans


def vectors_of(texts: list[list[int]], table: npt.NDArray[np.float32] | None = None) -> TokenVectors:
    return TokenVectors(tokens_of(texts), 300 if table is None else len(table), table)


def dense(vectors: TokenVectors) -> npt.NDArray[np.float64]:
    return vectors.rows(np.arange(len(vectors))).astype(np.float64)


def clusters_of(vectors: TokenVectors, k: int, seed: int = 0, **options: int) -> Clusters:
    return spherical_kmeans(vectors, k, np.random.default_rng(seed), **options)


def topical_texts(n: int, seed: int) -> list[list[int]]:
    """Texts of 2 to 9 tokens, most of them from one of 30 topics of 10 tokens."""
    generator = np.random.default_rng(seed)
    topics = generator.integers(0, 30, n)
    lengths = generator.integers(2, 10, n)
    return [
        np.where(
            generator.random(m) < 0.7, 10 * topic + generator.integers(0, 10, m), generator.integers(0, 300, m)
        ).tolist()
        for topic, m in zip(topics, lengths, strict=True)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_centre_is_the_mean_direction_of_its_members_and_each_text_is_nearest_to_its_own(seed: int) -> None:
    vectors = vectors_of(topical_texts(80, seed))
    found, rows = clusters_of(vectors, 6, seed), dense(vectors)
    cosines = rows @ found.centroids.T
    np.testing.assert_array_equal(found.labels, cosines.argmax(axis=1))
    np.testing.assert_allclose(found.cosines, cosines.max(axis=1), atol=1e-6)
    for cluster in range(len(found)):
        mean = rows[found.labels == cluster].sum(axis=0)
        np.testing.assert_allclose(found.centroids[cluster], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("width", [None, 32], ids=["one-hot", "dense"])
@pytest.mark.parametrize("k", [12, 40])
def test_it_is_not_worse_than_minibatch_k_means_of_scikit_learn(width: int | None, k: int) -> None:
    table = np.random.default_rng(0).standard_normal((300, width)).astype(np.float32) if width else None
    vectors = vectors_of(topical_texts(1000, 0), table)
    rows = dense(vectors).astype(np.float32)
    ours = [clusters_of(vectors, k, seed).cosines.mean() for seed in range(3)]
    theirs = [
        (rows @ unit(MiniBatchKMeans(k, n_init=1, random_state=seed).fit(rows).cluster_centers_).T).max(axis=1).mean()
        for seed in range(3)
    ]
    assert np.mean(ours) >= np.mean(theirs)


def test_texts_that_share_no_token_have_cosine_0_and_no_cluster_in_common() -> None:
    # Tokens 7 and 263 are equal modulo 256: nothing may be folded onto anything.
    vectors = vectors_of([[7], [263], [7, 8], [263, 264], [100]])
    cosines = dense(vectors) @ dense(vectors).T
    assert cosines[[0, 0, 2, 4], [1, 3, 3, 0]].tolist() == [0.0] * 4
    found = clusters_of(vectors, 5)
    assert len(set(found.labels.tolist())) == 5
    products = vectors.products(found.centroids[found.labels])
    assert products[0, [1, 3, 4]].tolist() == [0.0] * 3


@pytest.mark.parametrize("width", [None, 64], ids=["one-hot", "dense"])
def test_copies_are_one_cluster_whatever_the_order_of_their_tokens(width: int | None) -> None:
    generator = np.random.default_rng(3)
    table = generator.standard_normal((300, width)).astype(np.float32) if width else None
    bags = [generator.integers(0, 300, 40).tolist() for _ in range(3)]
    texts = [generator.permutation(bag).tolist() for bag in bags for _ in range(50)]
    found = clusters_of(vectors_of(texts, table), 20)
    assert len(found) == 3
    assert sorted(found.sizes.tolist()) == [50, 50, 50]
    np.testing.assert_allclose(found.cosines, 1, atol=1e-5)


def test_texts_without_tokens_have_cosine_0_and_move_no_centre() -> None:
    found = clusters_of(vectors_of([[], [3], [], [3]]), 2)
    assert len(found) == 1
    assert found.cosines.tolist() == [0.0, 1.0, 0.0, 1.0]
    empty = clusters_of(vectors_of([[], []]), 2)
    assert (len(empty), empty.cosines.tolist()) == (1, [0.0, 0.0])


def test_centres_are_learned_on_the_candidates_and_all_texts_are_assigned() -> None:
    vectors = vectors_of([[k] for k in range(30)])
    found = clusters_of(vectors, 10, candidates=4)
    assert len(found) == 4
    assert len(found.labels) == 30
    assert found.cosines.tolist().count(1.0) == 4


def test_texts_are_assigned_alike_in_slices_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = vectors_of(topical_texts(101, 5))
    centroids = unit(np.random.default_rng(1).random((3, 300)).astype(np.float32))
    products = dense(vectors) @ centroids.T
    for size in (1, 7, 100, 10_000):
        monkeypatch.setattr("tasks.learning.vectors.SLICE_TEXTS", size)
        labels, cosines = assign(vectors, centroids)
        np.testing.assert_array_equal(labels, products.argmax(axis=1))
        np.testing.assert_allclose(cosines, products.max(axis=1), atol=1e-6)


def test_plus_plus_draws_in_proportion_to_the_distance_to_those_drawn() -> None:
    # From [0] the distance to [0, 1] is 1 - 1 / sqrt(2) = 0.293 and to [2] it is 1: 0.293 / 1.293 = 0.227.
    vectors = vectors_of([[0], [0, 1], [2]])
    drawn = [plus_plus(vectors, 2, np.random.default_rng(seed)).tolist() for seed in range(600)]
    seconds = [second for first, second in drawn if first == 0]
    assert len(seconds) / 600 == pytest.approx(1 / 3, abs=0.06)
    assert seconds.count(1) / len(seconds) == pytest.approx(0.227, abs=0.08)


def test_plus_plus_draws_different_texts_and_stops_where_none_is_left() -> None:
    vectors = vectors_of([[], [1], [1], [2], [2], []])
    for seed in range(20):
        drawn = plus_plus(vectors, 5, np.random.default_rng(seed)).tolist()
        assert len(drawn) == 2
        assert {vectors.tokens.ids[vectors.tokens.offsets[position]] for position in drawn} == {1, 2}
    assert plus_plus(vectors_of([[], []]), 3, np.random.default_rng(0)).tolist() == [0]
