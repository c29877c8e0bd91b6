import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.learning.calibration import stratified_folds

labels_lists = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(labels_lists, st.integers(2, 7), st.integers(0, 2**32))
def test_of_each_label_the_folds_get_equally_many_give_or_take_one(labels: list[int], n_folds: int, seed: int) -> None:
    numbers = np.array(labels, np.int64)
    folds = stratified_folds(numbers, n_folds, np.random.default_rng(seed))
    assert folds.shape == numbers.shape
    for label in set(labels):
        sizes = np.bincount(folds[numbers == label], minlength=n_folds)
        assert len(sizes) == n_folds
        assert sizes.max() - sizes.min() <= 1


@given(labels_lists, st.integers(2, 7))
def test_folds_are_as_even_in_all_as_they_can_be(labels: list[int], n_folds: int) -> None:
    sizes = np.bincount(
        stratified_folds(np.array(labels, np.int64), n_folds, np.random.default_rng(0)), minlength=n_folds
    )
    assert sizes.max() - sizes.min() <= 1


def test_the_same_generator_gives_the_same_folds_and_another_others() -> None:
    labels = np.arange(100) % 2
    first, again, other = (stratified_folds(labels, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_folds_do_not_follow_the_order_of_the_items() -> None:
    folds = stratified_folds(np.zeros(100, np.int64), 5, np.random.default_rng(0))
    assert folds.tolist() != (np.arange(100) % 5).tolist()
