"""The loop replayed: nothing is asked twice, mixes share their start, and the oracle errs as often as it is told to."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from annotation.synthetic import synthetic_headlines
from storage.errors import SamplingError
from tasks.learning.encoders import StaticVectors
from tasks.learning.tokens import Examples
from tasks.simulation.replay import Material, Oracle, Replay, Step, replay

HOW = Replay(start=40, batch_size=30, iterations=3, seed=1)
ACTIVE = {"random": 10.0, "least_confidence": 80.0, "outlier": 10.0}


@pytest.fixture(scope="module")
def material() -> Material:
    """1,200 headlines to ask about, 300 held out; label 0 is the rare one."""
    table, encoder = synthetic_headlines(1500), StaticVectors()
    tokens = encoder.tokenize(pa.array(table["text"].to_pylist(), pa.string()))
    labels = np.array([0 if label == "related" else 1 for label in table["label"].to_pylist()], np.int64)
    held = Examples(tokens.take(np.arange(1200, 1500)), labels[1200:])
    return Material(encoder, 2, tokens.take(np.arange(1200)), labels[:1200], held, positive=0)


def steps(material: Material, mix: dict[str, float], how: Replay = HOW, oracle: Oracle | None = None) -> list[Step]:
    return list(replay(material, mix, how, oracle))


def test_every_item_is_asked_once_and_every_step_knows_what_was_found(material: Material) -> None:
    found = steps(material, ACTIVE)
    assert [step.n_asked for step in found] == [40, 70, 100, 130]
    asked = np.concatenate([step.asked for step in found])
    assert len(np.unique(asked)) == 130
    assert [step.n_labels for step in found] == [40, 70, 100, 130]
    assert found[-1].n_positive == np.count_nonzero(material.labels[asked] == 0)
    assert found[0].probabilities.shape == (300, 2)
    assert np.allclose(found[-1].probabilities.sum(axis=1), 1, atol=1e-5)
    assert not np.array_equal(found[0].probabilities, found[-1].probabilities)


def test_one_seed_is_one_replay_and_all_mixes_begin_alike(material: Material) -> None:
    first, again, other = steps(material, ACTIVE), steps(material, ACTIVE), steps(material, {"random": 1.0})
    for one, two in zip(first, again, strict=True):
        assert one.asked.tolist() == two.asked.tolist()
        assert one.probabilities.tobytes() == two.probabilities.tobytes()
    assert first[0].probabilities.tobytes() == other[0].probabilities.tobytes()
    assert set(first[1].asked.tolist()) != set(other[1].asked.tolist())
    assert steps(material, ACTIVE, Replay(40, 30, 1, seed=2))[0].asked.tolist() != first[0].asked.tolist()


def test_the_end_of_the_items_is_the_end_of_the_replay(material: Material) -> None:
    found = steps(material, {"random": 1.0}, Replay(start=500, batch_size=400, iterations=9))
    assert [step.n_asked for step in found] == [500, 900, 1200]


def test_it_goes_on_at_random_until_there_are_two_labels(material: Material) -> None:
    rare = np.flatnonzero(material.labels == 0)[:3]
    common = np.flatnonzero(material.labels == 1)[:400]
    chosen = np.concatenate([common, rare])
    few = Material(material.encoder, 2, material.tokens.take(chosen), material.labels[chosen], material.held_out, 0)
    first = steps(few, {"random": 1.0}, Replay(start=5, batch_size=5, iterations=1))[0]
    assert first.n_positive >= 1
    assert first.n_asked % 5 == 0
    assert len(first.asked) == first.n_asked
    larger = steps(few, {"random": 1.0}, Replay(start=5, batch_size=40, iterations=1, more=5))[0]
    assert larger.asked.tolist() == first.asked.tolist(), "one start for batches of every size"


def test_too_few_items_or_one_label_are_told(material: Material) -> None:
    with pytest.raises(SamplingError, match=r"\b1200\b.*\b1150\b.*\b100\b"):
        steps(material, ACTIVE, Replay(start=1150, batch_size=100))
    same = Material(material.encoder, 2, material.tokens, np.ones(1200, np.int64), material.held_out)
    with pytest.raises(SamplingError) as caught:
        steps(same, ACTIVE)
    assert "1200" not in str(caught.value), "there are enough items"


def test_an_oracle_errs_and_abstains_as_often_as_it_is_told_to() -> None:
    truth, generator = np.repeat([0, 1, 2], 4000), np.random.default_rng(0)
    assert Oracle().answers(truth, 3, generator).tolist() == truth.tolist()
    noisy = Oracle(noise=0.3).answers(truth, 3, generator)
    assert np.mean(noisy != truth) == pytest.approx(0.3, abs=0.02)
    assert {int(label) for label in noisy[truth == 0]} == {0, 1, 2}, "every other label"
    quiet = Oracle(abstention=0.25).answers(truth, 3, generator)
    assert np.mean(quiet == -1) == pytest.approx(0.25, abs=0.02)
    assert set(quiet[quiet >= 0] - truth[quiet >= 0]) == {0}


def test_a_majority_of_three_is_right_more_often_than_one_and_two_that_differ_settle_nothing() -> None:
    truth, generator = np.zeros(6000, np.int64), np.random.default_rng(0)
    three = Oracle(noise=0.3, annotators=3).answers(truth, 2, generator)
    assert np.mean(three == 0) == pytest.approx(0.7**3 + 3 * 0.7**2 * 0.3, abs=0.02)
    two = Oracle(noise=0.3, annotators=2).answers(truth, 2, generator)
    assert np.mean(two == -1) == pytest.approx(2 * 0.7 * 0.3, abs=0.02)


def test_items_without_an_answer_are_spent_but_not_learnt_from(material: Material) -> None:
    found = steps(material, ACTIVE, oracle=Oracle(abstention=0.5))
    assert found[-1].n_asked == 130
    assert 40 < found[-1].n_labels < 90
