"""Replay the loop on labeled items: a simulated annotator answers, a model is trained, a mix of strategies queries.

Training and querying use the functions of real iterations: `training.train`, `build_pool`, `mix_strategies`.
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
    """A simulated annotator, or several whose majority decides.

    Attributes:
        noise: Probability of a wrong label, 0 to 1.
        abstention: Probability of no answer, 0 to 1.
        annotators: Number of annotators per item; a tie leaves the item without a label.
    """

    noise: float = 0.0
    abstention: float = 0.0
    annotators: int = 1

    def answers(self, truth: Positions, n_labels: int, generator: np.random.Generator) -> Positions:
        """Return the labels (n,) of items with true labels `truth` (n,); -1 for an item without a label."""
        n, votes = len(truth), np.zeros((len(truth), n_labels), np.int64)
        for _ in range(self.annotators):
            wrong = (truth + generator.integers(1, max(2, n_labels), n)) % n_labels
            answers = np.where(generator.random(n) < self.noise, wrong, truth)
            answered = generator.random(n) >= self.abstention
            votes[np.flatnonzero(answered), answers[answered]] += 1
        most = votes.max(axis=1)
        has_majority = (most > 0) & ((votes == most[:, None]).sum(axis=1) == 1)
        return np.where(has_majority, votes.argmax(axis=1), -1)


@dataclass(frozen=True)
class Material:
    """Labeled items to replay the loop on, and held-out items to evaluate on, tokenized for one encoder.

    Attributes:
        encoder: The encoder.
        n_labels: Number of labels.
        tokens: Tokens of the n items.
        labels: True label numbers (n,) of the n items.
        held_out: The evaluation items: never queried, never trained on.
        positive: Number of the positive label; None without one.
        read: A description of the files that were read, in a few lines.
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
    """The settings of a replay.

    Attributes:
        start: Number of random items at the start.
        batch_size: Number of items per batch.
        iterations: Number of batches after the start.
        seed: Random seed.
        total: Number of items in all batches, so that the last one may be smaller; None if every batch is full.
        more: While the start has only one label, so many random items are added; None for the batch size.
        evaluation_share: Fraction of each batch that comes from an evaluation reserve (of the start one half), as in
            the default plan of real iterations; 0 to train on all items.
        n_evaluation: Target number of evaluation items; once it is reached, batches have no more of them.
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
        """Return the number of items in the batch of an iteration, from 0.

        >>> [Replay(batch_size=40, iterations=3, total=100).size(k) for k in range(3)]
        [40, 40, 20]
        """
        total = self.batch_size * self.iterations if self.total is None else self.total
        return min(self.batch_size, total - iteration * self.batch_size)


@dataclass(frozen=True)
class Step:
    """The predictions of the model after a batch.

    Attributes:
        asked: Positions of the items of this batch in the order of querying, (n,); those of the reserve first.
        n_asked: Number of items queried so far.
        n_labels: Number of training items with a label so far.
        n_positive: Number of queried items whose true label is positive; 0 without a positive label.
        probabilities: Predictions for the held-out items, float32 (n_held_out, n_labels).
        decisions: Label numbers of the predictions, (n_held_out,).
        seconds: Seconds to train, and to choose this batch.
        evaluation: Positions of the items of the evaluation reserve with a label so far.
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
    settings: Replay,
    oracle: Oracle | None = None,
    config: TrainingConfig | None = None,
) -> Iterator[Step]:
    """Replay the loop with a mix of strategies; yield a step for the random start and one for each batch.

    With the same seed, the start is the same for every mix and encoder, so that paired comparisons are possible; also
    for other batch sizes if `more` is the same.

    Args:
        material: The items.
        mix: Strategy -> weight in a batch.
        settings: Sizes, number of iterations, seed.
        oracle: The simulated annotators; None for one that is always right.
        config: The training configuration; its seed is replaced.

    Raises:
        SamplingError: There are too few items, or all have the same label.
    """
    _check(material, settings)
    answers = _Answers(material, oracle or Oracle(), settings)
    config, batch, choosing_s = replace(config or TrainingConfig(), seed=settings.seed), answers.begin(), 0.0
    for iteration in range(settings.iterations + 1):
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
        if iteration == settings.iterations or not len(answers.pool()):
            return
        started = time.monotonic()
        reserved = answers.next_reserved(settings.size(iteration), settings.evaluation_share)
        queried = _choose(
            material, trained, answers, mix, settings.size(iteration) - len(reserved), settings.seed + iteration
        )
        batch = np.concatenate([reserved, queried])
        choosing_s = time.monotonic() - started
        answers.ask(batch)


class _Answers:
    """The answers of the oracle so far."""

    def __init__(self, material: Material, oracle: Oracle, settings: Replay) -> None:
        self.material, self.oracle, self.settings = material, oracle, settings
        self.generator = np.random.default_rng(settings.seed)
        n = len(material.labels)
        self.labels = np.full(n, _NOT_ASKED, np.int64)
        n_reserve = min(settings.n_evaluation, n // 2) if settings.evaluation_share else 0
        self.reserve = np.random.default_rng([settings.seed, n]).permutation(n)[:n_reserve]
        self.is_reserved = np.isin(np.arange(n), self.reserve)

    def begin(self) -> Positions:
        """Query random items until there are two labels; return their positions."""
        order = self.generator.permutation(len(self.labels))
        order = order[~self.is_reserved[order]]
        reserved = self.next_reserved(self.settings.start, 0.5 if self.settings.evaluation_share else 0.0)
        n_queried, more = self.settings.start - len(reserved), self.settings.more or self.settings.batch_size
        self.ask(reserved)
        self.ask(order[:n_queried])
        while len(np.unique(self.examples().labels)) < 2 and n_queried < len(order):
            self.ask(order[n_queried : n_queried + more])
            n_queried += more
        return np.concatenate([reserved, order[:n_queried]])

    def next_reserved(self, n: int, share: float) -> Positions:
        """Return the next items of the evaluation reserve for a batch of n items."""
        unused = self.reserve[self.labels[self.reserve] == _NOT_ASKED]
        return np.asarray(unused[: round(share * n)])

    def evaluation(self) -> Positions:
        """Return the items of the evaluation reserve that have a label."""
        return np.asarray(self.reserve[self.labels[self.reserve] >= 0])

    def ask(self, batch: Positions) -> None:
        """Query a batch of items."""
        truth = self.material.labels[batch]
        self.labels[batch] = self.oracle.answers(truth, self.material.n_labels, self.generator)

    def examples(self) -> Examples:
        """Return the training items that have a label."""
        labelled = np.flatnonzero((self.labels >= 0) & ~self.is_reserved)
        return Examples(self.material.tokens.take(labelled), self.labels[labelled])

    def pool(self) -> Positions:
        """Return the items that may still be queried, ascending."""
        return np.flatnonzero((self.labels == _NOT_ASKED) & ~self.is_reserved)

    @property
    def n_asked(self) -> int:
        return int(np.count_nonzero(self.labels != _NOT_ASKED))

    @property
    def n_positive(self) -> int:
        is_asked = self.labels != _NOT_ASKED
        return int(np.count_nonzero(is_asked & (self.material.labels == self.material.positive)))


def _choose(
    material: Material, trained: Trained, answers: _Answers, mix: Mapping[str, float], n: int, seed: int
) -> Positions:
    """Return at most n items of the pool, chosen by the mix."""
    positions = answers.pool()
    vectors = token_vectors(material.tokens.take(positions), material.encoder)
    pool = build_pool(
        pa.array([f"{k:09d}" for k in positions.tolist()], pa.string()),
        vectors,
        material.encoder,
        (trained.classifier, trained.calibration),
        LabelledTexts(answers.examples(), positive=material.positive),
        hidden=hidden_vectors(trained.classifier, vectors),
    )
    mixed = mix_strategies(pool, scaled_mix(mix, min(n, len(positions))), seed)
    return np.array([int(item_id) for item_id in mixed.item_ids], np.int64)


def _check(material: Material, settings: Replay) -> None:
    n = len(material.labels)
    if n < settings.start + settings.batch_size:
        raise SamplingError(
            f"{n} items to replay on, but {settings.start} + {settings.batch_size} are needed for the start and one "
            "batch.",
            hint="Use smaller batches (pal simulate FILE --start 20 --batch 20) or a larger file.",
        )
    if len(np.unique(material.labels)) < 2:
        hint = "Name another column: pal simulate FILE --label-column NAME"
        raise SamplingError("All items have the same label.", hint=hint)


_NOT_ASKED = -2
