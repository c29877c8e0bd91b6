"""A model in numpy says what the network in torch says, and a command that predicts needs no more than that."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from annotation.synthetic import synthetic_headlines
from storage.errors import ModelError
from tasks.learning.calibration import Calibration
from tasks.learning.encoders import BagOfWords, Encoder, StaticVectors, fit_bag_of_words
from tasks.learning.families import Mix, design
from tasks.learning.family_training import FamilyWeights
from tasks.learning.model_files import WEIGHTS, load_model, save_model
from tasks.learning.network import FamilyClassifier, saved_weights
from tasks.learning.sentences import SentenceEncoder
from tasks.learning.stored_model import FEW_TEXTS, SLICE_TEXTS, numpy_model, read_texts
from tasks.learning.training import Classifier, Trained, TrainingConfig

LABELS = ("not_related", "related", "unclear")
VECTORS = StaticVectors()
ODD = ["", "   ", "zzzqqq 龍", "Überschwemmung\u00a0in Köln", "a\x1cb", "İstanbul ΔΟΣ", "flood " * 300]
HEADS = {"linear": ("minilm-static", 0), "hidden": ("minilm-static", 16), "bag": ("bag", 0), "bag-hidden": ("bag", 8)}
MIXES: dict[str, Mix] = {
    "vectors and words": {"vectors": 0.5, "words": 0.5},
    "characters": {"characters": 1.0},
    "flat vectors and characters": {"flat_vectors": 0.3, "characters": 0.7},
    "all families": {"vectors": 0.2, "words": 0.3, "characters": 0.3, "sentences": 0.2},
}


@pytest.fixture(scope="module")
def headlines() -> list[str]:
    """More texts than one slice, and such as break things."""
    texts: list[str] = synthetic_headlines(SLICE_TEXTS + 7)["text"].to_pylist()
    return [*ODD, *texts, ""]


def saved_model(folder: Path, head: str, texts: list[str]) -> Path:
    """A model with weights as large as training makes them, which is as good a test as trained ones."""
    if head in MIXES:
        return model_of_families(folder, MIXES[head], texts[:400])
    kind, hidden = HEADS[head]
    encoder: Encoder = VECTORS if kind != "bag" else fit_bag_of_words([pa.array(texts, pa.string())])
    torch.manual_seed(3)
    classifier = Classifier(encoder.n_tokens, len(LABELS), vectors=encoder.vectors(), hidden=hidden)
    with torch.no_grad():
        for name, weight in classifier.named_parameters():
            if name != "bag.weight" or not classifier.pretrained:
                weight.normal_(0, 1.5)
    trained = Trained(classifier, Calibration(1.7, 0.31, 1), 1)
    save_model(folder, trained, encoder, LABELS, TrainingConfig(hidden=hidden), {})
    return folder


def model_of_families(folder: Path, mix: Mix, texts: list[str]) -> Path:
    encoder, generator = VECTORS, np.random.default_rng(3)
    tokens = read_texts(encoder, texts, with_characters="characters" in mix)
    if "sentences" in mix:
        tokens = replace(tokens, sentences=SentenceEncoder().encode(texts))
    found, vocabulary = design(encoder, tokens)
    weights = {name: generator.normal(0, 2, (found.rows[name].shape[1], len(LABELS))) for name in mix}
    fitted = FamilyWeights(mix, weights, generator.normal(size=len(LABELS)), 10.0)
    classifier = FamilyClassifier(encoder, saved_weights(fitted, vocabulary))
    assert classifier.reads_characters == ("characters" in mix)
    with torch.inference_mode():
        torch.testing.assert_close(classifier(tokens), classifier.head(classifier.represent(tokens)), rtol=0, atol=1e-4)
    save_model(folder, Trained(classifier, Calibration(1.7, 0.31, 1), 0), encoder, LABELS, TrainingConfig(), {})
    return folder


def assert_same(folder: Path, texts: list[str]) -> None:
    ours, theirs = numpy_model(folder, LABELS), load_model(folder, LABELS)
    assert (ours.model_id, ours.labels, ours.calibration) == (theirs.model_id, theirs.labels, theirs.calibration)
    ours_of, theirs_of = ours.predict(texts), theirs.predict(texts)
    assert ours_of.dtype == np.float32
    np.testing.assert_allclose(ours_of, theirs_of, rtol=0, atol=1e-5)
    decided = ours.calibration.decisions(ours_of)
    assert decided.tolist() == theirs.calibration.decisions(theirs_of).tolist()
    assert len(set(decided.tolist())) > 1, "a model that decides"


@pytest.mark.parametrize("head", [*HEADS, *MIXES])
def test_numpy_and_torch_give_the_same_probabilities_and_decisions(
    tmp_path: Path, headlines: list[str], head: str
) -> None:
    folder = saved_model(tmp_path / "models" / "m1", head, headlines)
    if head == "all families":  # a sentence vector costs much more than the others
        headlines = headlines[:60]
    assert_same(folder, headlines)
    model = numpy_model(folder)
    assert model.predict([]).shape == (0, 3)
    whole = model.predict(headlines)
    for start in (0, 3, SLICE_TEXTS):
        np.testing.assert_allclose(model.predict(headlines[start : start + 5]), whole[start : start + 5], atol=1e-6)


def test_the_lengths_of_ngrams_come_with_the_model_and_are_the_usual_ones_where_an_older_model_has_none(
    tmp_path: Path,
) -> None:
    letters = np.random.default_rng(0).choice([chr(code) for code in range(0x4E00, 0x4E40)], (300, 12))
    texts = ["".join(row) for row in letters]
    folder = saved_model(tmp_path / "models" / "m1", "characters", texts)
    assert_same(folder, texts)
    model = numpy_model(folder)
    said, now = model.weights["characters.orders"].tolist(), model.predict(texts)
    usual = replace(model, weights=model.weights | {"characters.orders": np.array([1, 3, 5])}).predict(texts)
    older = {name: weight for name, weight in model.weights.items() if name != "characters.orders"}
    assert said == [1, 2, 3]
    assert np.abs(now - usual).max() > 0.1, "the lengths matter"
    np.testing.assert_array_equal(replace(model, weights=older).predict(texts), usual)


@pytest.mark.parametrize("head", ["linear", "bag", "flat vectors and characters"])
def test_numpy_and_torch_agree_on_every_real_headline(tmp_path: Path, real_data: Path, head: str) -> None:
    with (real_data / "abcnews-date-text.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[1] for row in csv.reader(file)][1:]
    assert len(texts) > 70_000 > FEW_TEXTS
    assert_same(saved_model(tmp_path / "models" / "m1", head, texts), texts)


WORDS = st.sampled_from(
    ["flood", "Fire", "CATS", "unaffable", "\u00a0", "\x0b", "\x1f", "\u2028", "日本", "I\u0307", "İ", "Σ"]
)
TEXT = st.lists(WORDS | st.text(max_size=4), max_size=8).map(" ".join)


@given(st.lists(TEXT, max_size=5))
def test_few_texts_have_the_same_tokens_as_many(texts: list[str]) -> None:
    for encoder in (VECTORS, BagOfWords(("flood", "fire", "i", "σ", "日本", "i̇"))):
        few, many = encoder.tokenize_few(texts), encoder.tokenize(pa.array(texts, pa.string()))
        assert few.ids.tolist() == many.ids.tolist()
        assert few.offsets.tolist() == many.offsets.tolist()
        assert few.ids.dtype == many.ids.dtype


def test_words_are_parted_where_arrow_parts_them() -> None:
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    words = [f"cat{letter}dog" for letter in letters if letter.isspace()]
    assert len(words) > 25
    assert VECTORS.tokenize_few(words).ids.tolist() == VECTORS.tokenize(pa.array(words)).ids.tolist()


def test_a_changed_file_of_weights_is_refused_without_torch_as_with_it(tmp_path: Path, headlines: list[str]) -> None:
    folder = saved_model(tmp_path / "models" / "m1", "linear", headlines)
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    for read in (numpy_model, load_model):
        with pytest.raises(ModelError, match="sha256"):
            read(folder)
    with pytest.raises(ModelError, match="a, b"):
        numpy_model(folder, ("a", "b"))
