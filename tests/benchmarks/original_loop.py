"""One iteration as the original scripts run it: bag of words, a dense vector and a step for one item at a time.

Words between white space that occur three times in pool and training texts, Linear - ReLU - Linear - log-softmax, SGD,
ten epochs of up to 200 items a label; then 10,000 random items of the pool are scored, one by one.
"""

from __future__ import annotations

import csv
import random
import time
from collections import Counter
from pathlib import Path

import torch
from measuring import Seconds
from prepared import opened, texts_of
from torch import nn
from torch.nn import functional

MIN_COUNT, HIDDEN, EPOCHS, PER_LABEL, RATE = 3, 128, 10, 200, 0.01
N_SCORED, N_ASKED = 10_000, 100

Item = tuple[str, int]
"""A text and its label: 1 for related, 0 for not."""


class Network(nn.Module):
    """Word counts to the logarithms of two probabilities."""

    def __init__(self, n_words: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(n_words, HIDDEN), nn.Linear(HIDDEN, 2)

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        return functional.log_softmax(self.second(self.first(counts).clamp(min=0)), dim=1)


def original(folder: Path) -> Seconds:
    """The whole iteration, and what it would take if it scored every item of the pool."""
    training = _training_items(folder)
    draw = random.Random(0)
    torch.manual_seed(0)
    started = time.perf_counter()
    with texts_of(folder).open(encoding="utf-8", newline="") as file:
        pool = [row[1] for row in csv.reader(file)][1:]
    places = _vocabulary([*pool, *(text for text, _ in training)])
    network = Network(len(places))
    _train(network, places, training, draw)
    trained = time.perf_counter()
    scored = draw.sample(pool, min(N_SCORED, len(pool)))
    with torch.no_grad():
        unsure = [1 - network(_counts(text, places)).exp().max().item() for text in scored]
    asked = sorted(range(len(scored)), key=unsure.__getitem__, reverse=True)[:N_ASKED]
    ended = time.perf_counter()
    assert len(asked) == N_ASKED
    every_item = trained - started + (ended - trained) * len(pool) / len(scored)
    name = "one iteration: the original"
    return {f"{name}, {N_SCORED:,} scored": ended - started, f"{name}, all scored (extrapolated)": every_item}


def _training_items(folder: Path) -> list[Item]:
    from storage.lake.annotations import labelled_texts
    from storage.records import Split

    project = opened(folder)
    store, task = project.workspace.store(), project.label_set
    table = labelled_texts(store, Split.TRAINING, store.version())
    labels = [int(label == task.positive) for label in table["label"].to_pylist()]
    return list(zip(table["text"].to_pylist(), labels, strict=True))


def _vocabulary(texts: list[str]) -> dict[str, int]:
    """Word -> its place in the vectors."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    return {word: place for place, word in enumerate(word for word, n in counts.items() if n >= MIN_COUNT)}


def _counts(text: str, places: dict[str, int]) -> torch.Tensor:
    """How often each word occurs in a text, (1, n_words)."""
    vector = torch.zeros(1, len(places))
    for word in text.split():
        if word in places:
            vector[0][places[word]] += 1
    return vector


def _train(network: Network, places: dict[str, int], items: list[Item], draw: random.Random) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    groups = [[item for item in items if item[1] == label] for label in (1, 0)]
    for _ in range(EPOCHS):
        epoch = [item for group in groups for item in draw.sample(group, min(PER_LABEL, len(group)))]
        draw.shuffle(epoch)
        for text, label in epoch:
            network.zero_grad()
            functional.nll_loss(network(_counts(text, places)), torch.tensor([label])).backward()
            optimizer.step()
