"""Compare the texts of the newest imports with the older ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from storage.errors import ModelError
from storage.lake.models import production_model
from storage.lake.slices import RecentTexts, recent_texts
from tasks.learning.drift import Drift, NewWord, drift, new_words
from tasks.learning.families import directions
from tasks.learning.stopping import wilson_interval
from tasks.predict_file import model_in_production
from tasks.project import Project
from tasks.sentence_vectors import predict_stored

log = logging.getLogger(__name__)

LEAST, MOST = 200, 1000
"""Minimum number of new texts and of older texts, and the maximum size of a sample of each."""
MOST_WORDS = 10
RATE, LEAST_AUC = 0.01, 0.55
"""Maximum rate of false alarms if nothing changed, and the AUC to exceed with 95% confidence: months of the same
newspaper differ by less (docs/experiments.md)."""


@dataclass(frozen=True)
class Watched:
    """The newest texts compared with the older ones.

    Attributes:
        since: When the first of the newest was imported (UTC), and `until` when the last.
        positive: Fraction that the production model predicts as positive, of the older and of the newest texts, with
            95% intervals; empty without a model or a positive label.
        words: Words that are significantly more frequent in the newest texts, most significant first.
    """

    since: datetime
    until: datetime
    drift: Drift
    positive: tuple[tuple[float, float, float], ...] = ()
    words: tuple[NewWord, ...] = ()

    @property
    def fires(self) -> bool:
        """Whether this is drift."""
        return self.drift.fires(RATE, LEAST_AUC)

    def line(self) -> str:
        """The result in a sentence."""
        drift = self.drift
        text = f"Texts imported since {self.since:%Y-%m-%d %H:%M} UTC against older ones: AUC {drift.auc:.3f} "
        text += f"[{drift.low:.3f}, {drift.high:.3f}], p = {drift.p:.3f}"
        if self.positive:
            shares = [f"{share:.1%} [{low:.1%}, {high:.1%}]" for share, low, high in self.positive]
            text += f"; predicted positive: {shares[0]} of the older, {shares[1]} of the new"
        if self.words:
            named = [f"{word.word} ({word.old:.1%}, {word.new:.1%})" for word in self.words[:MOST_WORDS]]
            rest = f" and {n:,} more" if (n := len(self.words) - len(named)) else ""
            text += f"; new words (older, new): {', '.join(named)}{rest}"
        return f"Drift: {text}." if self.fires else f"{text}: no drift."


def watch_drift(project: Project) -> Watched | None:
    """Compare the newest imports with the older texts; None if either has fewer than `LEAST` texts."""
    recent = recent_texts(project.store, LEAST, MOST)
    if recent is None:
        return None
    encoder = project.encoders.shipped()
    old, new = (
        directions(encoder.vectors(), encoder.tokenize(pa.array(texts, pa.string())))
        for texts in (recent.old, recent.new)
    )
    compared = drift(old, new, np.random.default_rng(project.config.model.seed))
    words = tuple(new_words(recent.old, recent.new, RATE))
    watched = Watched(recent.since, recent.until, compared, _positive(project, recent), words)
    (log.warning if watched.fires else log.info)("%s", watched.line())
    return watched


def _positive(project: Project, recent: RecentTexts) -> tuple[tuple[float, float, float], ...]:
    positive = project.label_set.positive
    store = project.store
    if positive is None or production_model(store) is None:
        return ()
    try:
        model = model_in_production(project)
    except ModelError as error:
        log.warning("Predicted positives are not compared: %s", error.what)
        return ()
    at, shares = model.labels.index(positive), []
    for texts in (recent.old, recent.new):
        n = int((model.calibration.decisions(predict_stored(store, model, texts)) == at).sum())
        shares.append((n / len(texts), *wilson_interval(n, len(texts))))
    return tuple(shares)
