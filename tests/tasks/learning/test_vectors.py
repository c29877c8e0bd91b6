import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import tokens_of

from tasks.learning.training import Classifier
from tasks.learning.vectors import NetworkVectors, TokenVectors, Vectors, unit

N_TOKENS, WIDTH = 12, 5
texts = st.lists(st.lists(st.integers(0, N_TOKENS - 1), max_size=6), min_size=1, max_size=20)
KINDS = ("table", "counts", "network", "rows")


def made(kind: str, listed: list[list[int]]) -> tuple[Vectors, npt.NDArray[np.float32]]:
    """Vectors of a kind, and the same as rows (n, width) by plain loops."""
    table = np.random.default_rng(0).standard_normal((N_TOKENS, WIDTH)).astype(np.float32)
    if kind == "network":
        classifier = Classifier(N_TOKENS, 3, hidden=WIDTH)
        weight = classifier.bag.weight.detach().numpy()
        bias = classifier.hidden.bias.detach().numpy()  # type: ignore[union-attr]
        rows = np.array([np.maximum(weight[text].sum(axis=0) + bias, 0) for text in listed], np.float32)
        return NetworkVectors(tokens_of(listed), classifier), rows
    one_hot = np.eye(N_TOKENS, dtype=np.float32)
    rows = np.array([(one_hot if kind == "counts" else table)[text].sum(axis=0) for text in listed], np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(norms > 0, rows / np.where(norms > 0, norms, 1), 0).astype(np.float32)
    vectors = TokenVectors(tokens_of(listed), N_TOKENS, None if kind == "counts" else table)
    return vectors.kept() if kind == "rows" else vectors, rows


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(texts)
def test_products_rows_and_sums_are_those_of_the_rows_worked_out_one_by_one(kind: str, listed: list[list[int]]) -> None:
    vectors, rows = made(kind, listed)
    generator = np.random.default_rng(1)
    directions = generator.standard_normal((4, rows.shape[1])).astype(np.float32)
    assert (len(vectors), vectors.width) == rows.shape
    np.testing.assert_allclose(vectors.products(directions), rows @ directions.T, atol=1e-5)
    some = generator.integers(0, len(rows), 7)
    np.testing.assert_allclose(vectors.rows(some), rows[some], atol=1e-6)
    np.testing.assert_allclose(vectors.squared_norms, np.square(rows).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(vectors.kept().products(directions), rows @ directions.T, atol=1e-5)
    groups = generator.integers(-1, 3, len(rows))
    expected = np.array([rows[groups == group].sum(axis=0) for group in range(3)])
    np.testing.assert_allclose(vectors.sums(groups, 3), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norms_first", [True, False])
def test_a_part_has_the_vectors_of_its_texts_and_other_texts_lie_in_the_same_space(
    kind: str, norms_first: bool
) -> None:
    listed = [[1, 2], [], [3], [1, 1, 4], [11]]
    vectors, rows = made(kind, listed)
    if norms_first and isinstance(vectors, TokenVectors):
        assert vectors.norms.shape == (5,)
    everything = np.arange(5)
    np.testing.assert_allclose(vectors.take(np.array([3, 0])).rows(np.arange(2)), rows[[3, 0]], atol=1e-6)
    np.testing.assert_allclose(vectors.slice(1, 4).rows(np.arange(3)), rows[1:4], atol=1e-6)
    np.testing.assert_allclose(vectors.of(tokens_of(listed[::-1])).rows(everything), rows[::-1], atol=1e-6)
    assert vectors.take(np.array([3, 0])).tokens.ids.tolist() == [1, 1, 4, 1, 2]


def test_texts_that_share_no_token_have_cosine_exactly_0_under_word_counts() -> None:
    vectors, _ = made("counts", [[0, 1, 1], [2, 3], [1, 4]])
    cosines = vectors.products(vectors.rows(np.arange(3)))
    assert cosines[0, 1] == cosines[1, 0] == cosines[1, 2] == 0.0
    assert cosines[0, 2] == pytest.approx(2 / (5**0.5 * 2**0.5))
    assert np.diag(cosines) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_more_texts_than_one_slice_holds_are_as_many_small_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [[k % N_TOKENS, k // 2 % N_TOKENS] for k in range(23)]
    vectors, rows = made(kind, listed)
    monkeypatch.setattr("tasks.learning.vectors.SLICE_TEXTS", 5)
    directions = np.eye(rows.shape[1], dtype=np.float32)[:3]
    np.testing.assert_allclose(vectors.products(directions), rows[:, :3], atol=1e-5)
    np.testing.assert_allclose(vectors.sums(np.zeros(23, np.int64), 1)[0], rows.sum(axis=0), atol=1e-4)


def test_unit_leaves_a_row_of_0_alone() -> None:
    assert unit(np.array([[0, 0], [0, 2]], np.float32)).tolist() == [[0, 0], [0, 1]]
