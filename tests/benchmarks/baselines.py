"""Textbook baselines of `quality.py`: scikit-learn's logistic regression (C = 10, balanced) on one kind of features.

`static` is the mean of the shipped token vectors, scaled to length 1; `word` TF-IDF of word 1-2-grams; `char` TF-IDF of
character n-grams (1-3 where texts have no spaces, else 2-5 within words); `minilm` sentence vectors. TF-IDF is fitted
on the labelled items. A name with `+` puts the features beside each other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tasks.learning.distillation import Teacher
from tasks.learning.encoders import StaticVectors

RIVALS = ("static", "word", "char", "word+char", "static+word")
SENTENCE = "minilm"
FEW_SPACES = 0.05
"""Texts with fewer white space among their characters are of a script without spaces."""

Floats = npt.NDArray[np.float64]


class Baselines:
    """Fits and scores the baselines on one data set; sentence vectors are made once for each text."""

    def __init__(self) -> None:
        self._encoder = StaticVectors()
        self._vectors = self._encoder.vectors()
        self._teacher: Teacher | None = None
        self._sentences: dict[str, npt.NDArray[np.float32]] = {}

    def probabilities(
        self, method: str, training: Sequence[str], labels: npt.NDArray[np.int64], test: Sequence[str], n_labels: int
    ) -> tuple[Floats, float, float]:
        """Probabilities (n, n_labels) of the test texts, and the CPU seconds of fitting and scoring.

        Sentence vectors are not part of the seconds. A label without a training item has probability 0.
        """
        if method == SENTENCE:
            self._read([*training, *test])
        started = time.process_time()
        features = [self._fitted(part, training) for part in method.split("+")]
        classifier = LogisticRegression(C=10, class_weight="balanced", max_iter=2000)
        classifier.fit(_beside(features, training), labels)
        fitted = time.process_time()
        found = np.zeros((len(test), n_labels))
        found[:, classifier.classes_] = classifier.predict_proba(_beside(features, test))
        return found, fitted - started, time.process_time() - fitted

    def _fitted(self, part: str, training: Sequence[str]) -> Any:
        """A function from texts to their rows of features."""
        if part == "static":
            return self._static
        if part == SENTENCE:
            return lambda texts: np.stack([self._sentences[text] for text in texts])
        if part == "word":
            vectorizer = TfidfVectorizer(ngram_range=(1, 2))
        elif without_spaces(training):
            vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3))
        else:
            vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))
        return partial(vectorizer.fit(training).transform)

    def _static(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        tokens = self._encoder.tokenize(pa.array(texts, pa.string()))
        ends = tokens.offsets.astype(np.int64)
        bags = csr_matrix((np.ones(len(tokens.ids), np.float32), tokens.ids.astype(np.int64), ends))
        bags.resize(len(texts), len(self._vectors))
        rows = bags @ self._vectors
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)

    def _read(self, texts: Sequence[str]) -> None:
        self._teacher = self._teacher or Teacher()
        new = list(dict.fromkeys(text for text in texts if text not in self._sentences))
        if new:
            self._sentences.update(zip(new, self._teacher.sentence_vectors(new), strict=True))


def without_spaces(texts: Sequence[str]) -> bool:
    """Whether the texts are of a script that puts no spaces between words.

    >>> without_spaces(["味道不错，送餐很快"]), without_spaces(["Good food, fast delivery"])
    (True, False)
    """
    joined = "".join(texts)
    return sum(map(str.isspace, joined)) < FEW_SPACES * len(joined)


def _beside(features: Sequence[Any], texts: Sequence[str]) -> Any:
    blocks = [each(texts) for each in features]
    return blocks[0] if len(blocks) == 1 else csr_matrix(hstack([csr_matrix(block) for block in blocks]))
