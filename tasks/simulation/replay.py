"""The loop replayed on labelled items: a simulated annotator answers, the model learns, a mix of strategies asks on.

What trains and what asks is what real iterations use: `training.train`, `build_pool`, `mix_strategies`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import SamplingError
from tasks.learning.encoders import Encoder
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.training import Target, Trained, TrainingConfig, predict_logits, train
from tasks.sampling.mixer import mix_strategies, scaled_mix
from tasks.sampling.pool_building import LabelledTexts, build_pool, hidden_vectors, token_vectors

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Oracle:
    """A simulated annotator, or several whose majority counts.

    Attributes:
        noise: Chance that one answers with another label, 0 to 1.
        abstention: Chance that one gives no label, 0 to 1.
        annotators: How many are asked about each item; where they are level the item has no label.
    """

    noise: float = 0.0
    abstention: float = 0.0
    annotators: int = 1

    def answers(self, truth: Positions, n_labels: int, generator: np.random.Generator) -> Positions:
        """Labels (n,) of items whose true labels are `truth` (n,); -1 where there is none."""
        n, votes = len(truth), np.zeros((len(truth), n_labels), np.int64)
        for _ in range(self.annotators):
            wrong = (truth + generator.integers(1, max(2, n_labels), n)) % n_labels
            given = np.where(generator.random(n) < self.noise, wrong, truth)
            answered = generator.random(n) >= self.abstention
            votes[np.flatnonzero(answered), given[answered]] += 1
        most = votes.max(axis=1)
        settled = (most > 0) & ((votes == most[:, None]).sum(axis=1) == 1)
        return np.where(settled, votes.argmax(axis=1), -1)


@dataclass(frozen=True)
class Material:
    """Labelled items to replay the loop on, and others to measure on, as tokens of one encoder.

    Attributes:
        labels: True label numbers (n,) of the n items.
        held_out: Never asked about, never trained on.
        positive: Number of the label that is looked for; None where no label is.
        read: What was understood of the file, in a few short lines.
    """

    encoder: Encoder
    n_labels: int
    tokens: Tokens
    labels: Positions
    held_out: Examples
    positive: int | None = None
    read: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replay:
    """How the loop is replayed.

    Attributes:
        start: Random items to begin with.
        batch_size: Items asked about at a time.
        iterations: Batches that the model chooses.
        seed: Of everything random.
        total: Items that it chooses in all, so that the last batch may be smaller; None where every batch is full.
        more: Random items at a time until the start has two labels; None for a batch of them.
        evaluation_share: Share of each batch, and half of the start, that is from an evaluation reserve, as in the
            default plan of real iterations; 0: all items are trained on.
        n_evaluation: Evaluation items wanted; from then on batches have none.
    """

    start: int = 100
    batch_size: int = 100
    iterations: int = 10
    seed: int = 0
    total: int | None = None
    more: int | None = None
    evaluation_share: float = 0.0
    n_evaluation: int = 1200

    def size(self, iteration: int) -> int:
        """Items of the batch that iteration 0, 1 ... asks about.

        >>> [Replay(batch_size=40, iterations=3, total=100).size(k) for k in range(3)]
        [40, 40, 20]
        """
        most = self.batch_size * self.iterations if self.total is None else self.total
        return min(self.batch_size, most - iteration * self.batch_size)


@dataclass(frozen=True)
class Step:
    """The model after a number of answers, and what was asked to get there.

    Attributes:
        asked: Positions of the items of this step's batch, in the order they were asked, (n,); the reserve's first.
        n_asked: Items asked about so far, in all.
        n_labels: Of them those that got a label.
        n_positive: Of them those whose true label is the positive one; 0 where none is looked for.
        probabilities: Of the held-out items, float32 (n_held_out, n_labels), and `decisions` (n_held_out,).
        seconds: To train, and to choose this step's batch.
        evaluation: Positions of the items of the evaluation reserve that have a label by now.
    """

    asked: Positions
    n_asked: int
    n_labels: int
    n_positive: int
    probabilities: npt.NDArray[np.float32]
    decisions: Positions
    seconds: tuple[float, float]
    evaluation: Positions


def replay(
    material: Material,
    mix: Mapping[str, float],
    how: Replay,
    oracle: Oracle | None = None,
    config: TrainingConfig | None = None,
) -> Iterator[Step]:
    """Replay the loop with a mix of strategies: a step for the random start and one for each batch.

    The start is the same for every mix and encoder under one seed, so that they can be compared pair by pair; of other
    batch sizes too where `more` is the same.

    Args:
        mix: Strategy -> weight in a batch.

    Raises:
        SamplingError: There are too few items, or only one label among them.
    """
    _check(material, how)
    answers = _Answers(material, oracle or Oracle(), how)
    config, batch, choosing_s = replace(config or TrainingConfig(), seed=how.seed), answers.begin(), 0.0
    for iteration in range(how.iterations + 1):
        started = time.monotonic()
        training = answers.examples()
        trained = train(
            material.encoder,
            training,
            None,
            config,
            Target(material.n_labels, material.positive),
        )
        logits = predict_logits(trained.classifier, material.held_out.tokens)
        probabilities = trained.calibration.probabilities(logits)
        yield Step(
            batch,
            answers.n_asked,
            len(training.labels),
            answers.n_positive,
            probabilities,
            trained.calibration.decisions(probabilities),
            (time.monotonic() - started, choosing_s),
            answers.evaluation(),
        )
        if iteration == how.iterations or not len(answers.left()):
            return
        started = time.monotonic()
        reserved = answers.next_reserved(how.size(iteration), how.evaluation_share)
        queried = _choose(material, trained, answers, mix, how.size(iteration) - len(reserved), how.seed + iteration)
        batch = np.concatenate([reserved, queried])
        choosing_s = time.monotonic() - started
        answers.ask(batch)


class _Answers:
    """What the annotator said so far."""

    def __init__(self, material: Material, oracle: Oracle, how: Replay) -> None:
        self.material, self.oracle, self.how = material, oracle, how
        self.generator = np.random.default_rng(how.seed)
        n = len(material.labels)
        self.given = np.full(n, _NOT_ASKED, np.int64)
        n_reserve = min(how.n_evaluation, n // 2) if how.evaluation_share else 0
        self.reserve = np.random.default_rng([how.seed, n]).permutation(n)[:n_reserve]
        self.is_reserved = np.isin(np.arange(n), self.reserve)

    def begin(self) -> Positions:
        """Ask about random items until there are two labels; returns them."""
        order = self.generator.permutation(len(self.given))
        order = order[~self.is_reserved[order]]
        reserved = self.next_reserved(self.how.start, 0.5 if self.how.evaluation_share else 0.0)
        begun, more = self.how.start - len(reserved), self.how.more or self.how.batch_size
        self.ask(reserved)
        self.ask(order[:begun])
        while len(np.unique(self.examples().labels)) < 2 and begun < len(order):
            self.ask(order[begun : begun + more])
            begun += more
        return np.concatenate([reserved, order[:begun]])

    def next_reserved(self, n: int, share: float) -> Positions:
        """The next items of the evaluation reserve for a batch of n."""
        left = self.reserve[self.given[self.reserve] == _NOT_ASKED]
        return np.asarray(left[: round(share * n)])

    def evaluation(self) -> Positions:
        """The items of the evaluation reserve that have a label."""
        return np.asarray(self.reserve[self.given[self.reserve] >= 0])

    def ask(self, batch: Positions) -> None:
        """Ask about items, whose labels are known from then on."""
        truth = self.material.labels[batch]
        self.given[batch] = self.oracle.answers(truth, self.material.n_labels, self.generator)

    def examples(self) -> Examples:
        """The training items that have a label."""
        known = np.flatnonzero((self.given >= 0) & ~self.is_reserved)
        return Examples(self.material.tokens.take(known), self.given[known])

    def left(self) -> Positions:
        """The items that were not asked about and may be queried, ascending."""
        return np.flatnonzero((self.given == _NOT_ASKED) & ~self.is_reserved)

    @property
    def n_asked(self) -> int:
        return int(np.count_nonzero(self.given != _NOT_ASKED))

    @property
    def n_positive(self) -> int:
        asked = self.given != _NOT_ASKED
        return int(np.count_nonzero(asked & (self.material.labels == self.material.positive)))


def _choose(
    material: Material, trained: Trained, answers: _Answers, mix: Mapping[str, float], n: int, seed: int
) -> Positions:
    """At most n items: what the mix proposes of those that are left."""
    left = answers.left()
    vectors = token_vectors(material.tokens.take(left), material.encoder)
    pool = build_pool(
        pa.array([f"{k:09d}" for k in left.tolist()], pa.string()),
        vectors,
        material.encoder,
        (trained.classifier, trained.calibration),
        LabelledTexts(answers.examples(), positive=material.positive),
        hidden=hidden_vectors(trained.classifier, vectors),
    )
    mixed = mix_strategies(pool, scaled_mix(mix, min(n, len(left))), seed)
    return np.array([int(item_id) for item_id in mixed.item_ids], np.int64)


def _check(material: Material, how: Replay) -> None:
    n = len(material.labels)
    if n < how.start + how.batch_size:
        raise SamplingError(
            f"{n} items to replay on / {how.start} + {how.batch_size} needed for a start and one batch.",
            hint="smaller ones: pal simulate FILE --start 20 --batch 20; or a larger file",
        )
    if len(np.unique(material.labels)) < 2:
        raise SamplingError("all items have one label.", hint="another column: pal simulate FILE --label-column NAME")


_NOT_ASKED = -2
