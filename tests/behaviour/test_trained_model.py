"""How a trained model behaves: what it must know, what must not matter to it, and what must move it which way."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logit

from annotation.synthetic import synthetic_headlines
from tasks.learning.encoders import StaticVectors
from tasks.learning.stored_model import read_texts
from tasks.learning.tokens import Examples
from tasks.learning.training import Target, TrainingConfig, predict_logits, train

Probabilities = Callable[[list[str]], npt.NDArray[np.float32]]
"""Texts to the probability of each that it is related to a disaster."""

QUIET = [
    "council approves new library",
    "minister opens school in northern suburb",
    "team wins final after extra time",
    "market closes higher on strong profits",
    "festival draws record crowd",
    "farmers welcome new trade deal",
]


def synthetic() -> tuple[list[str], list[str]]:
    rows = synthetic_headlines(1000)
    return rows["text"].to_pylist(), rows["label"].to_pylist()


def real(folder: Path) -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for label in ("related", "not_related"):
        with (folder / "training_data" / f"{label}.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) > 1]
        texts += [row[1] for row in rows]
        labels += [label] * len(rows)
    return texts, labels


@pytest.fixture(scope="module", params=["synthetic", "real"])
def related(request: pytest.FixtureRequest) -> Probabilities:
    """A model trained on synthetic headlines, and one on the labels that come with the original."""
    source = synthetic if request.param == "synthetic" else lambda: real(request.getfixturevalue("real_data"))
    texts, labels = source()
    encoder = StaticVectors()
    numbers = np.array([0 if label == "related" else 1 for label in labels], np.int64)
    examples = Examples(read_texts(encoder, texts, with_characters=True), numbers)
    trained = train(encoder, examples, None, TrainingConfig(), Target(2, 0))

    def probabilities(asked: list[str]) -> npt.NDArray[np.float32]:
        logits = predict_logits(trained.classifier, read_texts(encoder, asked, with_characters=True))
        return np.asarray(trained.calibration.probabilities(logits)[:, 0])

    return probabilities


def test_what_is_plain_is_known(related: Probabilities) -> None:
    disasters = ["floods kill twelve in coastal town", "earthquake destroys homes", "bushfire threatens houses"]
    assert (related(disasters) > 0.5).all()
    assert np.mean(related(QUIET) < 0.5) >= 5 / 6


@pytest.mark.parametrize("change", [str.upper, str.title, lambda text: f"{text}.", lambda text: f"  {text}  "])
def test_case_and_white_space_and_a_full_stop_decide_nothing(
    related: Probabilities, change: Callable[[str], str]
) -> None:
    texts = [*QUIET, "floods kill twelve in coastal town", "earthquake destroys homes"]
    before, after = related(texts), related([change(text) for text in texts])
    assert ((before > 0.5) == (after > 0.5)).all()
    assert np.abs(before - after).max() < 0.15


def test_the_name_of_the_place_decides_nothing(related: Probabilities) -> None:
    places = ("paris", "london", "chicago", "madrid", "toronto")
    for pattern in ("council approves new library in {}", "floods kill twelve in {}"):
        found = related([pattern.format(place) for place in places])
        assert len(set((found > 0.5).tolist())) == 1, dict(zip(places, found.tolist(), strict=True))


def test_a_disaster_that_is_added_makes_it_more_probable(related: Probabilities) -> None:
    before, after = related(QUIET), related([f"{text} as flood kills twelve" for text in QUIET])
    assert (after > before).all()
    assert np.median(logit(after) - logit(before)) > 2, "log odds: on synthetic headlines the model is very sure"
