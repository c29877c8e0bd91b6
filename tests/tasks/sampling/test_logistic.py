import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import protected
from sklearn.linear_model import LogisticRegression

from tasks.sampling.strategies.model_change import fit_logistic


def task(
    m: int, width: int, seed: int = 0, share: float = 0.3, scale: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Rows of one length and a rather linear target, of which at least one and not all are yes."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((m, width))
    rows *= scale / np.linalg.norm(rows, axis=1, keepdims=True)
    signal = rows @ generator.standard_normal(width) + 0.3 * scale * generator.standard_normal(m)
    n_yes = min(m - 1, max(1, round(share * m)))
    return protected(rows.astype(np.float32)), protected(np.argsort(np.argsort(-signal)) < n_yes)


@settings(max_examples=25)
@given(
    st.integers(2, 80),
    st.integers(1, 30),
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.5]),
    st.sampled_from([0.1, 1.0, 5.0]),
    st.sampled_from([0.2, 1.0, 10.0]),
)
def test_it_is_the_balanced_logistic_regression_of_scikit_learn(
    m: int, width: int, seed: int, share: float, scale: float, c: float
) -> None:
    rows, yes = task(m, width, seed, share, scale)
    found = fit_logistic(rows, yes, c=c)
    reference = LogisticRegression(C=c, class_weight="balanced", tol=1e-8, max_iter=10_000).fit(
        rows.astype(np.float64), yes
    )
    largest = np.abs(reference.coef_).max()
    np.testing.assert_allclose(found.weight, reference.coef_[0], atol=1e-3 * largest)
    np.testing.assert_allclose(found.bias, reference.intercept_[0], atol=1e-3 * max(largest * scale, 1))


def test_rows_that_are_not_finite_are_left_out() -> None:
    rows, yes = task(40, 5)
    broken = np.concatenate([rows, [[np.nan, 0, 0, 0, 0], [np.inf, 1, 1, 1, 1]]]).astype(np.float32)
    expected, found = fit_logistic(rows, yes), fit_logistic(broken, np.append(yes, [True, False]))
    np.testing.assert_array_equal(found.weight, expected.weight)
    assert found.bias == expected.bias


@pytest.mark.parametrize("yes", [[True, True], [False, False]])
def test_of_one_kind_only_nothing_is_learned(yes: list[bool]) -> None:
    layer = fit_logistic(np.eye(2, dtype=np.float32), np.array(yes))
    assert layer.weight.tolist() == [0, 0]
    assert layer.bias == 0


def test_where_the_kinds_are_far_apart_it_ends_in_something_finite() -> None:
    rows = np.array([[1e4, 0], [-1e4, 0], [1e4, 1], [-1e4, 1]], np.float32)
    layer = fit_logistic(rows, np.array([True, False, True, False]))
    assert np.isfinite(layer.weight).all()
    assert ((rows @ layer.weight + layer.bias > 0) == [True, False, True, False]).all()
