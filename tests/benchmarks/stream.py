"""How soon a new topic in a stream of headlines is noticed, how often nothing is taken for one, and what the gate does.

python tests/benchmarks/stream.py DATA_DIR [--orders 200] [--repeats 30]

DATA_DIR has abcnews-date-text.csv (publish_date, headline_text) and silver_labels.csv (id, label), row by row the same
headlines. Headlines about the war in Iraq are taken out of the stream; they are the topic that is injected. A slice is
what `pal import` would bring each day. Vectors are made once.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

from storage.lake.slices import slice_weights
from tasks.learning.drift import drift, new_words
from tasks.learning.encoders import StaticVectors
from tasks.learning.families import directions
from tasks.learning.promotion import Comparison, Scored, compare, recent_window
from tasks.promote import LEAST_RECENT
from tasks.watch_drift import LEAST, LEAST_AUC, MOST, RATE

TOPIC = re.compile(r"\b(iraqi?|baghdad|saddam|basra)")
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3)
DAYS = 10
Numbers = npt.NDArray[np.int64]


class Stream:
    """Headlines with vectors, months and machine labels; the topic apart from the rest."""

    def __init__(self, folder: Path) -> None:
        with (folder / "abcnews-date-text.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        with (folder / "silver_labels.csv").open(encoding="utf-8", newline="") as file:
            self.labels = np.array([row["label"] == "1" for row in csv.DictReader(file)])
        self.texts = [row["headline_text"] for row in rows]
        self.months = np.array([row["publish_date"][:6] for row in rows])
        of_topic = np.array([bool(TOPIC.search(text)) for text in self.texts])
        self.topic, self.rest = np.flatnonzero(of_topic), np.flatnonzero(~of_topic)
        encoder = StaticVectors()
        self.vectors = directions(encoder.vectors(), encoder.tokenize(pa.array(self.texts, pa.string())))

    def watch(self, old: Numbers, new: Numbers, generator: np.random.Generator) -> tuple[bool, bool]:
        """Whether the alarm goes off, and whether a word is new."""
        found = drift(self.vectors[old], self.vectors[new], generator)
        words = new_words([self.texts[k] for k in old], [self.texts[k] for k in new], RATE)
        return found.fires(RATE, LEAST_AUC), bool(words)


def shuffled_orders(stream: Stream, n: int) -> None:
    """False alarms where nothing changed."""
    alarms = []
    for seed in range(n):
        generator = np.random.default_rng(seed)
        order = generator.permutation(stream.rest)
        size = LEAST if seed % 2 else MOST
        alarms.append(stream.watch(order[:MOST], order[MOST : MOST + size], generator))
    print(f"{n} shuffled orders: {np.sum(alarms, axis=0).tolist()} with (an alarm, a new word)")


def by_month(stream: Stream, repeats: int) -> None:
    """Days of 200 texts in true order; from the first day of a month on a fraction of them is the topic."""
    months = np.unique(stream.months)[2:]
    quiet: list[tuple[bool, bool]] = []
    delays: dict[float, list[int | None]] = {each: [] for each in FRACTIONS}
    words: dict[float, list[int | None]] = {each: [] for each in FRACTIONS}
    for k in range(repeats):
        generator = np.random.default_rng(k)
        month = months[k % len(months)]
        old = generator.choice(stream.rest[stream.months[stream.rest] < month], MOST, replace=False)
        within = stream.rest[stream.months[stream.rest] == month]
        days = within[: DAYS * LEAST].reshape(DAYS, LEAST)
        quiet += [stream.watch(old, day, generator) for day in days]
        for fraction in FRACTIONS:
            noticed: list[tuple[bool, bool]] = []
            for day in days:
                changed = day.copy()
                places = generator.choice(LEAST, int(fraction * LEAST), replace=False)
                changed[places] = generator.choice(stream.topic, len(places), replace=False)
                noticed.append(stream.watch(old, changed, generator))
                if all(any(each) for each in zip(*noticed, strict=True)):
                    break
            for kept, each in zip((delays, words), zip(*noticed, strict=True), strict=True):
                kept[fraction].append(each.index(True) + 1 if any(each) else None)
    n_alarms, n_words = np.sum(quiet, axis=0).tolist()
    print(f"{len(quiet)} days without the topic: {n_alarms} alarms, {n_words} with a new word")
    for fraction in FRACTIONS:
        print(f"{fraction:.0%} topic: alarm {_delay(delays[fraction])}; new word {_delay(words[fraction])}")


def _delay(days: Sequence[int | None]) -> str:
    reached = [each for each in days if each is not None]
    return f"in {len(reached)} of {len(days)}" + (
        f", after {np.mean(reached):.1f} days of {LEAST} texts" if reached else ""
    )


def gates(stream: Stream, repeats: int) -> None:
    """A topic that is always positive is 20% of the new texts: the model that knows it, and the one that does not."""
    counts: dict[str, list[bool]] = {}
    for k in range(repeats):
        generator = np.random.default_rng(k)
        labels = stream.labels.copy()
        labels[stream.topic] = True
        old, topic = generator.permutation(stream.rest), generator.permutation(stream.topic)
        arrived = np.concatenate([topic[:1000], old[40_000:44_000]])
        new = generator.permutation(arrived)
        evaluation = np.concatenate([old[:600], new[:150]])
        places = np.repeat([0, 1], [600, 150])
        weights = np.array(slice_weights([40_000, len(new)], [600, 150]))[places]
        few, many = old[1000:1600], old[1000:2000]
        models = {"stale": many, "fresh": np.concatenate([few, new[1000:1150]])}
        said = {name: _scored(stream, labels, rows, evaluation) for name, rows in models.items()}
        truth = labels[evaluation]
        window = recent_window(places, truth, LEAST_RECENT)
        assert window is not None
        for candidate, production in (("stale", "fresh"), ("fresh", "stale")):
            pair = said[candidate], said[production]
            found = {
                "all items, unweighted": _compared(pair, truth, None, None),
                "all items, weighted": _compared(pair, truth, weights, None),
                "newest items": _compared(pair, truth, None, window[1]),
                "older items": _compared(pair, truth, None, ~window[1]),
            }
            for name, each in found.items():
                counts.setdefault(f"{candidate} replaces {production}, {name}", []).append(each.not_worse >= 0.5)
    for name, passed in counts.items():
        print(f"{name}: {sum(passed)} of {len(passed)}")


def _scored(stream: Stream, labels: npt.NDArray[np.bool_], rows: Numbers, items: Numbers) -> Any:
    model = LogisticRegression(C=10, max_iter=2000, class_weight="balanced").fit(stream.vectors[rows], labels[rows])
    return model.predict_proba(stream.vectors[items])[:, 1]


def _compared(pair: tuple[Any, Any], truth: Any, weights: Any, among: Any) -> Comparison:
    at = np.flatnonzero(among) if among is not None else np.arange(len(truth))
    ours, theirs = (Scored(each[at], each[at] > 0.5) for each in pair)
    item_weights = weights[at] if weights is not None else None
    found = compare([ours], [theirs], [truth[at]], "ap", margin=0.01, item_weights=item_weights)
    assert found is not None
    return found


def main() -> None:
    """Print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    stream = Stream(arguments.folder)
    gates(stream, arguments.repeats)
    by_month(stream, arguments.repeats)
    shuffled_orders(stream, arguments.orders)


if __name__ == "__main__":
    main()
