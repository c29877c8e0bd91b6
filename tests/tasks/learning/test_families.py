"""Feature families: the labeled items choose the right one, and what is held out was not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tasks.learning import family_training as room
from tasks.learning.calibration import stratified_folds
from tasks.learning.encoders import StaticVectors
from tasks.learning.families import RIDGE, VECTORS, Design, Mix, choose_mix, design, left_one_out
from tasks.learning.family_training import N_FOLDS, fit_families
from tasks.learning.stored_model import read_texts
from tasks.learning.tokens import Examples
from tasks.learning.training import Target, TrainingConfig, predict_logits, train

Texts = list[str]
Labels = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator], tuple[Texts, Labels]]
NOUNS = ["table", "garden", "window", "river", "letter", "mountain", "button", "engine", "pencil", "carpet"]
SUBJECTS = """
    dog cat horse cow sheep goat rabbit lion tiger wolf fox bear mouse pig duck goose eagle hawk owl whale dolphin shark
    salmon trout snake lizard frog turtle spider beetle monkey gorilla elephant zebra giraffe camel donkey deer otter
    ;
    bread cheese soup rice pasta cake butter salad pizza sausage fruit pie omelette pancake yogurt noodles honey jam
    chocolate biscuit muffin potato tomato onion garlic carrot cabbage spinach apple banana orange peach cherry sandwich
"""
ANIMALS, FOODS = (words.split() for words in SUBJECTS.split(";"))
N = 160


def by_meaning(generator: np.random.Generator) -> tuple[Texts, Labels]:
    """A word of one of two subjects: so many that the word itself says little."""
    labels = generator.integers(0, 2, N)
    words = [generator.choice((ANIMALS, FOODS)[label]) for label in labels]
    return [f"{' '.join(generator.choice(NOUNS, 2))} {word}" for word in words], labels


def by_order(generator: np.random.Generator) -> tuple[Texts, Labels]:
    """The same words in both labels: which of the two comes right after the other decides."""
    labels = generator.integers(0, 2, N)
    ends = [("not good but bad", "not bad but good")[label] for label in labels]
    return [f"{' '.join(generator.choice(NOUNS, 3))} {end} {generator.choice(NOUNS)}" for end in ends], labels


def by_characters(generator: np.random.Generator) -> tuple[Texts, Labels]:
    """Ethiopic, of which the tokenizer knows nothing: one of two syllables in the midst of others."""
    labels = generator.integers(0, 2, N)
    others = [chr(code) for code in range(0x1208, 0x1250)]
    texts = [
        "".join(generator.choice(others, 8)) + "\u1270\u1283"[label] + "".join(generator.choice(others, 8))
        for label in labels
    ]
    return texts, labels


@pytest.mark.parametrize(
    ("draw", "families"),
    [(by_meaning, VECTORS), (by_order, ("words", "characters")), (by_characters, ("characters",))],
)
def test_the_labeled_items_choose_the_family_that_decides(draw: Draw, families: tuple[str, ...]) -> None:
    texts, labels = draw(np.random.default_rng(1))
    encoder = StaticVectors()
    found, _ = design(encoder, read_texts(encoder, texts, with_characters=True))
    mix = choose_mix(found, labels, np.ones(N))
    assert sum(mix.values()) == pytest.approx(1)
    assert len(set(mix) & set(VECTORS)) < 2, "a text is looked up in one table of vectors"
    assert {name for name, weight in mix.items() if weight == max(mix.values())} <= {*families}, mix


def test_texts_that_the_tokenizer_cuts_into_letters_are_read_as_characters_alone() -> None:
    encoder, generator = StaticVectors(), np.random.default_rng(2)
    letters = [chr(code) for code in range(0x430, 0x450)]
    stems = ["".join(generator.choice(letters, 6)) for _ in range(60)]
    texts = [" ".join(generator.choice(stems, 8)) for _ in range(N)]
    few, many = np.zeros(N, np.int64), np.array([int(stems[0] in text or stems[1] in text) for text in texts])
    few[:3] = 1
    cyrillic, vocabulary = design(encoder, read_texts(encoder, texts, with_characters=True))
    assert vocabulary.orders["characters"] == (1, 3, 5), "there are spaces between the words"
    of_vectors = (cyrillic.rows["vectors"][:, 0] > np.median(cyrillic.rows["vectors"][:, 0])).astype(np.int64)
    for labels in (few, many, of_vectors):
        assert choose_mix(cyrillic, labels, np.ones(N)) == {"characters": 1.0}
    tweets = [f"@{stem} thanks 😂 for the table https://t.co/x8Kd0 #monday" for stem in generator.choice(ANIMALS, N)]
    unspaced, vocabulary = design(encoder, read_texts(encoder, by_characters(generator)[0], with_characters=True))
    assert (unspaced.usual, vocabulary.orders["characters"]) == ({"characters": 1.0}, (1, 2, 3))
    english, vocabulary = design(encoder, read_texts(encoder, tweets, with_characters=True))
    assert choose_mix(english, few, np.ones(N)) == {"vectors": 0.5, "words": 0.25, "characters": 0.25}
    assert vocabulary.orders["characters"] == (1, 3, 5)


def test_leaving_one_out_is_a_fit_to_all_others_and_a_look_at_the_item_as_it_is_held_out() -> None:
    generator = np.random.default_rng(0)
    rows, n = generator.normal(size=(25, 6)), 25
    held_out_rows, weights = rows * generator.uniform(1, 2, (n, 1)), generator.uniform(0.2, 3, n)
    targets = (generator.integers(0, 3, n)[:, None] == np.arange(3)).astype(np.float64)
    found = left_one_out(rows @ rows.T, held_out_rows @ rows.T, targets, weights)
    for k in range(n):
        others = np.delete(np.arange(n), k)
        x = np.column_stack([rows[others], np.ones(n - 1)])  # the bias is a feature that all have
        solved = np.linalg.solve(
            x.T @ (weights[others, None] * x) + RIDGE * np.eye(7), x.T @ (weights[others, None] * targets[others])
        )
        np.testing.assert_allclose(found[k], np.append(held_out_rows[k], 1) @ solved, atol=1e-8)


def labeled(n: int, n_labels: int, seed: int = 0) -> tuple[Texts, Labels]:
    """Texts with two nouns of any kind and one animal, whose number is the label; every third one has any animal."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, n_labels, n)
    animals = [ANIMALS[label % len(ANIMALS)] + "s" * (label // len(ANIMALS)) for label in range(n_labels)]
    drawn = np.where(generator.random(n) < 1 / 3, generator.integers(0, n_labels, n), labels)
    return [f"{' '.join(generator.choice(NOUNS, 2))} {animals[k]}" for k in drawn], labels


def test_few_items_and_many_are_fitted_alike_and_held_out_logits_are_of_fits_without_the_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, labels = labeled(90, 3)
    encoder, weights = StaticVectors(), np.random.default_rng(1).uniform(0.5, 2, 90)
    found, _ = design(encoder, read_texts(encoder, texts, with_characters=True))
    mix: Mix = {"vectors": 0.5, "words": 0.2, "characters": 0.3}
    monkeypatch.setattr(room, "choose_mix", lambda *_: mix)
    one = fit_families(found, labels, 3, weights=weights, seed=4, c=10.0)
    monkeypatch.setattr(room, "MOST_IN_KERNEL", 10)
    other = fit_families(found, labels, 3, weights=weights, seed=4, c=10.0)
    for name in mix:
        first, second = (found.rows[name] @ each.family_weights.weights[name] for each in (one, other))
        np.testing.assert_allclose(first, second, atol=0.02)
    np.testing.assert_allclose(one.held_out_logits, other.held_out_logits, atol=0.03)

    folds = stratified_folds(labels, N_FOLDS, np.random.default_rng(4))
    np.testing.assert_allclose(
        other.held_out_logits[folds == 0], without_the_first(found, labels, weights, folds, mix), atol=0.01
    )


def without_the_first(
    found: Design, labels: Labels, weights: npt.NDArray[np.float64], folds: Labels, mix: Mix
) -> npt.NDArray[np.float64]:
    """Logits of the first fold by a classifier trained on the others."""
    rest = np.flatnonzero(folds != 0)
    alone = fit_families(found.take(rest), labels[rest], 3, weights=weights[rest], seed=0, c=10.0).family_weights
    at = found.take(np.flatnonzero(folds == 0))
    scaled = {
        name: rows * 1.0 if name in VECTORS else rows.multiply(at.unseen[name][:, None]).tocsr()
        for name, rows in at.rows.items()
    }
    return np.asarray(sum(scaled[name] @ alone.weights[name] for name in mix) + alone.bias)


def test_very_many_items_are_fitted_as_fewer_are_and_held_out_in_two_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = labeled(90, 3)
    encoder, weights = StaticVectors(), np.random.default_rng(1).uniform(0.5, 2, 90)
    found, _ = design(encoder, read_texts(encoder, texts, with_characters=True))
    mix: Mix = {"vectors": 0.5, "words": 0.2, "characters": 0.3}
    monkeypatch.setattr(room, "choose_mix", lambda *_: mix)
    monkeypatch.setattr(room, "MOST_IN_KERNEL", 10)
    usual = fit_families(found, labels, 3, weights=weights, seed=4, c=10.0)
    folds = stratified_folds(labels, 2, np.random.default_rng(4))
    held_out = without_the_first(found, labels, weights, folds, mix)
    sizes, fit = [], room.fit_softmax

    def fit_and_count(rows: Any, *rest: Any) -> Any:
        sizes.append(rows.shape[0])
        return fit(rows, *rest)

    monkeypatch.setattr(room, "fit_softmax", fit_and_count)
    monkeypatch.setattr(room, "MOST_TO_CROSS_VALIDATE", 60)
    many = fit_families(found, labels, 3, weights=weights, seed=4, c=10.0)
    for name in mix:
        first, second = (found.rows[name] @ one.family_weights.weights[name] for one in (usual, many))
        np.testing.assert_allclose(first, second, atol=0.02)
    np.testing.assert_allclose(many.held_out_logits[folds == 0], held_out, atol=0.01)
    assert sizes == [*np.bincount(folds)[::-1], 90]  # each half is fitted once, and all of them once
    fit_families(found, labels, 3, weights=weights, seed=4)
    assert max(sizes[3:-3]) <= 50  # four fifths of the 60 that choose C


@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_label_with_one_item_is_trained_and_predicted_with_finite_probabilities(n_labels: int) -> None:
    texts, labels = labeled(60, 2)
    encoder = StaticVectors()
    labels = np.where(np.arange(60) == 7, n_labels - 1, 0 if n_labels == 2 else labels)
    examples = Examples(read_texts(encoder, texts, with_characters=True), labels)
    trained = train(encoder, examples, None, TrainingConfig(), Target(n_labels, n_labels - 1))
    logits = predict_logits(trained.classifier, examples.tokens)
    assert np.isfinite(logits).all()
    assert 0.05 < trained.calibration.temperature < 20
    assert 0 < trained.calibration.threshold < 1


def test_probabilities_of_77_labels_with_few_items_each_are_neither_flat_nor_certain() -> None:
    texts, labels = labeled(400, 77)
    labels[np.flatnonzero(labels < 10)[::2]] = 11  # some labels are left with one or two items
    encoder = StaticVectors()
    examples = Examples(read_texts(encoder, texts, with_characters=True), labels)
    trained = train(encoder, examples, None, TrainingConfig(), Target(77))
    others, truth = labeled(400, 77, seed=1)
    tokens = read_texts(encoder, others, with_characters=True)
    probabilities = trained.calibration.probabilities(predict_logits(trained.classifier, tokens))
    right = probabilities.argmax(axis=1) == truth
    assert right.mean() > 0.4
    assert abs(probabilities.max(axis=1).mean() - right.mean()) < 0.15
