"""The network and its training: labelled token ids in, a calibrated classifier out; the same seed, the same weights.

A linear head on pretrained vectors is a convex problem: L-BFGS finds its one optimum. Anything with a hidden layer
takes minibatch steps and stops early.

The network on pretrained vectors: mean of the vectors -> L2 -> [Linear -> ReLU] -> Linear. Without: sum of learned
vectors + bias -> ReLU -> Linear, which on bag-of-words tokens is the original's network (a linear layer on word counts
is an EmbeddingBag in mode sum).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional

from storage.errors import ModelError
from tasks.learning.calibration import Calibration, calibrate, calibrate_held_out, stratified_folds
from tasks.learning.encoders import Encoder, HeadWeights
from tasks.learning.families import Vocabulary, design
from tasks.learning.family_training import Fitted, fit_families
from tasks.learning.network import FamilyClassifier, Network, saved_weights
from tasks.learning.tokens import Examples, Tokens

N_FOLDS = 5
KNOWN_REGULARISATION, NEW_REGULARISATION = 0.01, 0.3
"""Of C, where a head is kept near one that was taught: while it knows the labels already, and where all are new."""

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; every default works.

    Attributes:
        hidden: Width of a hidden layer; 0 for none (on bag-of-words 0 means the original's 128).
        balance: Against rare labels: `weights` in the loss, `equal_draws` of each label per epoch, or `none`.
        regularisation: C of the linear head, as in logistic regression; 0 to choose it by cross-validation, which for
            a head on vectors alone means 1. There the loss has |weights|^2 / (C n) added.
        epochs: The most epochs of minibatch training; 0 where a linear head needs none.
        patience: Epochs without a better loss on held-out items before it stops.
        minibatch: Items per step.
        learning_rate: Of the steps (SGD).
        seed: Of everything random.
    """

    hidden: int = 0
    balance: Literal["weights", "equal_draws", "none"] = "weights"
    regularisation: float = 0.0
    epochs: int = 60
    patience: int = 3
    minibatch: int = 16
    learning_rate: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Target:
    """What is to be told apart: labels 0 to n_labels - 1.

    Attributes:
        positive: The label that the decision threshold is for; None for the most probable label.
    """

    n_labels: int
    positive: int | None = None


@dataclass(frozen=True)
class Trained:
    """A classifier, how its logits become probabilities and decisions, and how many epochs it took."""

    classifier: Network
    calibration: Calibration
    epochs: int


def train(
    encoder: Encoder,
    training: Examples,
    validation: Examples | None,
    config: TrainingConfig,
    target: Target,
    *,
    prior: HeadWeights | None = None,
) -> Trained:
    """Train and calibrate.

    A linear classifier on an encoder with vectors reads all feature families; near a taught head, the vectors alone.
    The number of epochs, the temperature and the decision threshold come from the validation items; where there are
    none, from 5-fold cross-validation on the training items.

    Args:
        encoder: Made the tokens; brings the vectors.
        prior: A linear head to stay near, as an adapted encoder brings it; one with a hidden layer does without.

    Raises:
        ModelError: The training items have fewer than two labels, or the encoder has no tokens.
    """
    _check_trainable(encoder, training)
    if prior is None and reads_families(encoder, config):
        return _train_on_families(encoder, training, validation, config, target)
    fit, positive = _Fit(encoder, config, target.n_labels, prior), target.positive
    if validation is not None and len(validation.labels):
        classifier, epochs = fit(training, validation, config.epochs)
        logits = predict_logits(classifier, validation.tokens)
        return Trained(classifier, calibrate(logits, validation.labels, positive, choose_threshold=True), epochs)
    logits, epochs = _cross_validated(training, fit)
    classifier, epochs = fit(training, None, epochs)
    # Training items are not a fair sample of the pool (sampling chose them): no threshold is fitted to them.
    return Trained(classifier, calibrate(logits, training.labels, positive, choose_threshold=False), epochs)


def reads_families(encoder: Encoder, config: TrainingConfig) -> bool:
    """Whether a model of this encoder can read all feature families."""
    return config.hidden == 0 and encoder.vectors() is not None


def _train_on_families(
    encoder: Encoder,
    training: Examples,
    validation: Examples | None,
    config: TrainingConfig,
    target: Target,
) -> Trained:
    fitted, vocabulary = _fit_families(encoder, training, config, target.n_labels)
    weights = saved_weights(fitted.family_weights, vocabulary)
    if validation is not None and len(validation.labels):
        logits = predict_logits(FamilyClassifier(encoder, weights), validation.tokens)
        return Trained(
            FamilyClassifier(encoder, weights),
            calibrate(logits, validation.labels, target.positive, choose_threshold=True),
            0,
        )
    calibration, shift = calibrate_held_out(fitted.held_out_logits, training.labels, target.positive)
    weights["bias"] += torch.from_numpy(shift)
    return Trained(FamilyClassifier(encoder, weights), calibration, 0)


def _fit_families(
    encoder: Encoder, training: Examples, config: TrainingConfig, n_labels: int
) -> tuple[Fitted, Vocabulary]:
    weights, c = item_weights(training.labels, config), config.regularisation or None
    # A second thread of the BLAS gains little on matrices this small, and on a busy machine they wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        texts, vocabulary = design(encoder, training.tokens)
        return fit_families(texts, training.labels, n_labels, weights=weights, seed=config.seed, c=c), vocabulary


def item_weights(labels: Labels, config: TrainingConfig) -> npt.NDArray[np.float64]:
    """Weight of each item in the loss, (n,), as `balance` says."""
    if config.balance == "equal_draws":
        order = drawn(labels, config, np.random.default_rng(config.seed))
        return np.bincount(order, minlength=len(labels)).astype(np.float64)
    return label_weights(labels, int(labels.max()) + 1, config).numpy()[labels].astype(np.float64)


def cross_validated_probabilities(
    encoder: Encoder, training: Examples, config: TrainingConfig, *, n_labels: int
) -> npt.NDArray[np.float32]:
    """Probabilities (n, n_labels) of the examples, each by a classifier that did not see it, with one temperature.

    A hidden layer's epochs are chosen on the fold that is predicted: its labels have that much of a say.

    Raises:
        ModelError: As `train`.
    """
    _check_trainable(encoder, training)
    if reads_families(encoder, config):
        fitted, _ = _fit_families(encoder, training, config, n_labels)
        calibration, shift = calibrate_held_out(fitted.held_out_logits, training.labels, None)
        return calibration.probabilities(fitted.held_out_logits + shift)
    logits, _ = _cross_validated(training, _Fit(encoder, config, n_labels, None))
    return calibrate(logits, training.labels, None, choose_threshold=False).probabilities(logits)


def _check_trainable(encoder: Encoder, training: Examples) -> None:
    present = np.unique(training.labels)
    if len(present) < 2:
        raise ModelError(
            f"{len(training.labels)} training items have only {len(present)} different labels; a model needs 2.",
            hint="Annotate more items: pal next, pal annotate, pal ingest",
        )
    if not encoder.n_tokens:
        raise ModelError(
            f"Encoder {encoder.encoder_id!r} has an empty vocabulary; no word is frequent enough.",
            hint='Import more texts (pal import FILE), or set encoder = "minilm-static" in pal.toml.',
        )


@dataclass(frozen=True)
class _Fit:
    """How classifiers are trained; called with examples, it trains one."""

    encoder: Encoder
    config: TrainingConfig
    n_labels: int
    prior: HeadWeights | None

    def __call__(self, examples: Examples, held_out: Examples | None, epochs: int) -> tuple[Classifier, int]:
        """A classifier trained on the examples, and the epochs it took; 0 for a linear head."""
        config, encoder = self.config, self.encoder
        with seeded(config.seed):
            classifier = Classifier(encoder.n_tokens, self.n_labels, vectors=encoder.vectors(), hidden=config.hidden)
            if classifier.linear:
                _fit_head(classifier, examples, config, self.prior)
                return classifier, 0
            return classifier, _fit_minibatches(classifier, examples, held_out, epochs, config)


def _cross_validated(training: Examples, fit: _Fit) -> tuple[npt.NDArray[np.float32], int]:
    """Logits (n, n_labels) of the examples, each by a classifier that did not see it; and the mean of the epochs."""
    folds = stratified_folds(training.labels, N_FOLDS, np.random.default_rng(fit.config.seed))
    logits = np.zeros((len(training.labels), fit.n_labels), np.float32)
    tried = []
    for fold in np.unique(folds):
        held_out = training.take(folds == fold)
        classifier, epochs = fit(training.take(folds != fold), held_out, fit.config.epochs)
        logits[folds == fold] = predict_logits(classifier, held_out.tokens)
        tried.append(epochs)
    return logits, round(float(np.mean(tried)))


def label_weights(labels: Labels, n_labels: int, config: TrainingConfig) -> torch.Tensor:
    """Weight of each label in the loss, float32 (n_labels,): n / (number of labels present * its count), or ones."""
    counts = np.bincount(labels, minlength=n_labels)
    if config.balance != "weights":
        return torch.ones(n_labels)
    weights = np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights.astype(np.float32))


def drawn(labels: Labels, config: TrainingConfig, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """The order in which an epoch sees the items: all once, or equally many of each label, drawn anew each time."""
    if config.balance != "equal_draws":
        return generator.permutation(len(labels))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(len(group) for group in members)
    picks = [np.resize(generator.permutation(group), most) for group in members]  # rare ones come round again
    return generator.permutation(np.concatenate(picks))


def fit_linear_head(
    head: torch.nn.Linear,
    represented: torch.Tensor,
    targets: torch.Tensor,
    *,
    weights: torch.Tensor,
    regularisation: float,
    towards: HeadWeights | None = None,
) -> None:
    """Put the optimum of weighted cross-entropy + |weights - those of `towards`|^2 / (C n) into a head.

    The bias goes free. A convex problem: L-BFGS finds its one optimum.

    Args:
        represented: (n, width) texts.
        targets: Their label numbers (n,), or a probability for each label (n, n_labels).
        weights: Of each label in the loss, (n_labels,).
        regularisation: C.
        towards: Where to stay near; weights of 0 where None.
    """
    represented, weights = represented.double(), weights.double()
    targets = targets.double() if targets.is_floating_point() else targets
    from scipy.optimize import minimize  # loading a model goes without it

    n, (n_labels, width) = len(represented), head.weight.shape
    near = torch.zeros(n_labels, width, dtype=torch.float64)
    bias = torch.zeros(n_labels, dtype=torch.float64)
    if towards is not None:
        near, bias = torch.from_numpy(towards.weight).double(), torch.from_numpy(towards.bias).double()

    def loss_and_gradient(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        learned = torch.from_numpy(flat).requires_grad_()
        rows, bias = learned[: n_labels * width].view(n_labels, width), learned[n_labels * width :]
        loss = functional.cross_entropy(represented @ rows.T + bias, targets, weights)
        loss = loss + (rows - near).square().sum() / (regularisation * n)
        (gradient,) = torch.autograd.grad(loss, learned)
        return loss.item(), gradient.numpy()

    start = torch.cat([near.flatten(), bias]).numpy()
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-8})
    best = torch.from_numpy(found.x)
    with torch.no_grad():
        head.weight.copy_(best[: n_labels * width].view(n_labels, width))
        head.bias.copy_(best[n_labels * width :])


def _fit_head(classifier: Classifier, examples: Examples, config: TrainingConfig, prior: HeadWeights | None) -> None:
    """The best head on the examples; near the prior, where there is one, the more of them it was taught by."""
    with torch.no_grad():
        represented = classifier.represent(examples.tokens)
    order, c = _order_for_draws(examples.labels, config), config.regularisation or 1.0
    if prior is not None:
        n = len(examples.labels)
        c *= KNOWN_REGULARISATION + NEW_REGULARISATION * max(0, n - prior.n_labelled) / n
    fit_linear_head(
        classifier.head,
        represented[torch.from_numpy(order)],
        torch.from_numpy(examples.labels[order]),
        weights=label_weights(examples.labels, classifier.head.out_features, config),
        regularisation=c,
        towards=prior,
    )


def _order_for_draws(labels: Labels, config: TrainingConfig) -> npt.NDArray[np.int64]:
    """The items that a full-batch fit sees: all, or one equal draw."""
    if config.balance != "equal_draws":
        return np.arange(len(labels))
    return drawn(labels, config, np.random.default_rng(config.seed))


def _fit_minibatches(
    classifier: Classifier, examples: Examples, held_out: Examples | None, epochs: int, config: TrainingConfig
) -> int:
    """SGD until the loss on held-out items stops falling, or for `epochs`; returns the epochs of the weights kept."""
    generator = np.random.default_rng(config.seed)
    weights = label_weights(examples.labels, classifier.head.out_features, config)
    learned = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    best_loss, best_epoch, best_state = np.inf, 0, None
    for epoch in range(1, epochs + 1):
        classifier.train()
        order = drawn(examples.labels, config, generator)
        for start in range(0, len(order), config.minibatch):
            chosen = order[start : start + config.minibatch]
            loss = functional.cross_entropy(
                classifier(examples.tokens.take(chosen)), torch.from_numpy(examples.labels[chosen]), weights
            )
            with torch.no_grad():  # torch.optim would cost 2 s of imports, more than all the steps
                for parameter, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
                    parameter.add_(gradient, alpha=-config.learning_rate)
        if held_out is None:
            continue
        logits = torch.from_numpy(predict_logits(classifier, held_out.tokens))
        now = functional.cross_entropy(logits, torch.from_numpy(held_out.labels), weights).item()
        if now < best_loss:
            best_loss, best_epoch = now, epoch
            best_state = {name: value.clone() for name, value in classifier.state_dict().items()}
        elif epoch - best_epoch >= config.patience:
            break
    if best_state is not None:
        classifier.load_state_dict(best_state)
        return best_epoch
    return epochs


@contextmanager
def seeded(seed: int, n_threads: int = 1) -> Iterator[None]:
    """Torch's global generator (which initialises layers) seeded inside, and one thread; as they were outside.

    One thread adds in one order. Steps of 16 items gain nothing from a second, and wait for it on a busy machine.
    """
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(n_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


BAG_OF_WORDS_HIDDEN = 128


class Classifier(Network):
    """Texts as token ids to one logit per label.

    Args:
        n_tokens: Size of the encoder's vocabulary.
        n_labels: Number of labels.
        vectors: Pretrained (n_tokens, d), kept as they are; None to learn vectors of size `hidden`.
        hidden: Width of the hidden layer; 0 for none, which without pretrained vectors means the original's 128.
    """

    def __init__(
        self, n_tokens: int, n_labels: int, *, vectors: npt.NDArray[np.float32] | None = None, hidden: int = 0
    ) -> None:
        super().__init__()
        self.pretrained = vectors is not None
        if vectors is not None:
            self.bag = nn.EmbeddingBag.from_pretrained(torch.from_numpy(vectors), mode="mean", freeze=True)
            self.hidden: nn.Module = nn.Linear(vectors.shape[1], hidden) if hidden else nn.Identity()
            width = hidden or vectors.shape[1]
        else:
            width = hidden or BAG_OF_WORDS_HIDDEN
            self.bag = nn.EmbeddingBag(n_tokens, width, mode="sum", sparse=True)
            bound = n_tokens**-0.5  # as nn.Linear(n_tokens, width) begins
            nn.init.uniform_(self.bag.weight, -bound, bound)
            self.hidden = _Bias(width, bound)
        self.rectified = not self.pretrained or hidden > 0
        self.head = nn.Linear(width, n_labels)
        self.linear = self.pretrained and not self.rectified  # only the head is learned: a convex problem

    def represent(self, tokens: Tokens) -> torch.Tensor:
        """The last representation before the head, (n, width)."""
        pooled = self.bag(*tokens.tensors())
        if self.pretrained:
            pooled = functional.normalize(pooled, dim=1)
        represented: torch.Tensor = self.hidden(pooled)
        return functional.relu(represented) if self.rectified else represented

    def learned_state(self) -> dict[str, torch.Tensor]:
        """The weights that training made: all but pretrained vectors, which the encoder brings."""
        return {
            name: value for name, value in self.state_dict().items() if not (self.pretrained and name == "bag.weight")
        }


class _Bias(nn.Module):
    """Adds a learned vector: the bias that EmbeddingBag lacks."""

    def __init__(self, width: int, bound: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return pooled + self.bias


SLICE_TEXTS = 8_192
"""Few enough for the processor's cache."""


def predict_logits(classifier: Network, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Logits (n, n_labels) of n texts, slice by slice: working memory does not grow with n."""
    classifier.eval()
    logits = np.empty((len(tokens), classifier.head.out_features), np.float32)
    with torch.inference_mode():
        for start in range(0, len(tokens), SLICE_TEXTS):
            stop = min(start + SLICE_TEXTS, len(tokens))
            logits[start:stop] = classifier(tokens.slice(start, stop)).numpy()
    return logits
