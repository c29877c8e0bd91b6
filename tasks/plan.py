"""Plans the next batch from the number of labels, and forecasts its effect."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import TYPE_CHECKING

from annotation.label_set import LabelSet
from storage.lake.annotations import label_counts
from storage.lake.batches import batch_results
from storage.lake.context import check_columns, check_where, matching_items
from storage.lake.evaluation_reserve import Reserve, find_reserve
from storage.lake.items import count_items, count_items_and_pool, count_pending, count_pool
from storage.lake.models import all_models, recent_values
from storage.lake.slices import weighted_share
from storage.lake.store import Store
from storage.records import SUCCESSIVE, BatchResult, Metric, Split, StopSign
from tasks.learning.stopping import (
    LEAST_EACH,
    LEAST_EVALUATION,
    LEAST_POSITIVES,
    WINDOW,
    Findings,
    forecast,
    stop_signs,
)

if TYPE_CHECKING:
    from tasks.project import Project

log = logging.getLogger(__name__)

UNBIASED = ("random",)
"""The strategies whose items are a random sample of the pool."""

TOLERATED_SHORTFALL = 0.01
"""Fraction of a minimum that may be missing, so that a few skipped or unsure items do not require a batch."""


FIRST_BATCH = 50
"""Items of a batch before the first model; half of them are for evaluation."""

SPARE = 1.25
"""Size of the evaluation reserve relative to the target, since some items are skipped."""

LEAST_RESERVE = 1500
"""Minimum size of the reserve of a large pool (a tenth of a small one): it cannot grow if the target is raised."""


@dataclass(frozen=True)
class Minimums:
    """The number of labeled items that each split needs.

    Attributes:
        evaluation: Target number of evaluation items.
        validation: Validation items, queried before training items.
        training: Random answers before a model chooses items; half are for evaluation if `evaluation_share` > 0.
        evaluation_share: Fraction of a batch from the evaluation reserve until there are enough, 0 to 1; with 0,
            evaluation items come first, in separate random batches.
    """

    evaluation: int = 1200
    validation: int = 0
    training: int = 100
    evaluation_share: float = 0.25

    @property
    def reserve(self) -> int:
        """Size of the evaluation reserve; 0 if evaluation items come first."""
        return ceil(SPARE * self.evaluation) if self.evaluation_share else 0

    @property
    def first_training(self) -> int:
        """Random training items before a model chooses: all random answers, or the half that is not for evaluation."""
        return ceil(self.training / 2) if self.evaluation_share else self.training


@dataclass(frozen=True)
class Plan:
    """The split, size and kind of the next batch.

    Attributes:
        active: Whether a model chooses the items.
        n_evaluation: Number of items of the evaluation reserve in a training batch.
    """

    purpose: Split
    n: int
    active: bool
    n_evaluation: int = 0

    def resized(self, n: int, n_before: int = 0) -> Plan:
        """The same plan for n items, after `n_before` items of earlier batches.

        >>> Plan(Split.TRAINING, 100, True, 25).resized(10)
        Plan(purpose=<Split.TRAINING: 'training'>, n=10, active=True, n_evaluation=2)
        """
        share = self.n_evaluation / self.n if self.n else 0.0
        return replace(self, n=n, n_evaluation=min(n, part_of(share, n, n_before)))


def part_of(share: float, n: int, n_before: int) -> int:
    """A fraction of the next n items as an integer, exact over many batches of any size.

    >>> [part_of(0.25, 1, n_before) for n_before in range(8)]
    [0, 0, 0, 1, 0, 0, 0, 1]
    """
    return floor(share * (n_before + n)) - floor(share * n_before)


def next_batch_plan(
    counts: Mapping[Split, Mapping[str, int]],
    minimums: Minimums,
    batch_size: int,
    pending: Mapping[Split, int] | None = None,
    n_due: int = 0,
) -> Plan:
    """Plan small random batches until a first model can learn, then active learning with evaluation items mixed in.

    With an evaluation share of 0, all evaluation items come first.

    Args:
        counts: Split -> label -> number of labeled items.
        pending: Split -> number of items in open batches, which count as if they were labeled.
        batch_size: Size of an active batch, and of a random one if all training items have the same label.
        n_due: Items of the evaluation reserve to query until the minimum is reached.

    >>> next_batch_plan({}, Minimums(), 100, n_due=1200)
    Plan(purpose=<Split.TRAINING: 'training'>, n=50, active=False, n_evaluation=25)
    """
    share = minimums.evaluation_share
    for split, missing in _missing(counts, minimums, pending or {}).items():
        if missing and split is Split.TRAINING and share:
            n = min(missing, FIRST_BATCH // 2 if n_due else FIRST_BATCH)
            n_evaluation = min(n, n_due)
            return Plan(split, n + n_evaluation, active=False, n_evaluation=n_evaluation)
        if missing and not (split is Split.EVALUATION and share):
            return Plan(split, missing, active=False)
    n_labels = sum(n > 0 for n in counts.get(Split.TRAINING, {}).values())
    n_before = sum(sum(by_label.values()) for by_label in counts.values()) + sum((pending or {}).values())
    n_evaluation = min(n_due, part_of(share, batch_size, n_before))
    return Plan(Split.TRAINING, batch_size, active=n_labels > 1, n_evaluation=n_evaluation)


def fitting_minimums(minimums: Minimums, n_items: int) -> Minimums:
    """Reduce the minimums if they would use up all items.

    If evaluation items come first, the minimums share half of the items in proportion. Otherwise each minimum is at
    most half of the items.

    >>> fitting_minimums(Minimums(1200, 200, 100, evaluation_share=0), 400)
    Minimums(evaluation=160, validation=26, training=13, evaluation_share=0)
    >>> fitting_minimums(Minimums(), 600)
    Minimums(evaluation=300, validation=0, training=100, evaluation_share=0.25)
    """
    names = ("evaluation", "validation", "training")
    configured = {name: int(getattr(minimums, name)) for name in names}
    total = sum(configured.values())
    if total < n_items or not n_items:
        return minimums
    if minimums.evaluation_share:
        return replace(minimums, **{name: min(n, n_items // 2) for name, n in configured.items()})
    return replace(minimums, **{name: int(n * n_items / 2 / total) for name, n in configured.items()})


def answers_before_model(minimums: Minimums, counts: Mapping[Split, Mapping[str, int]], n_items: int) -> int:
    """The approximate number of answers until the first model.

    >>> answers_before_model(Minimums(), {}, 5000), answers_before_model(Minimums(evaluation_share=0), {}, 5000)
    (100, 1300)
    """
    fitting = fitting_minimums(minimums, n_items)
    missing = _missing(counts, fitting, {})
    n_training = missing[Split.TRAINING]
    if fitting.evaluation_share:  # each comes with an evaluation item until there are enough
        return n_training + missing[Split.VALIDATION] + min(n_training, missing[Split.EVALUATION])
    return sum(missing.values())


def has_untrained_labels(project: Project, counts: Mapping[Split, Mapping[str, int]]) -> bool:
    """Whether there are two labels to train on, and the newest model was trained on fewer or more items.

    Args:
        counts: Split -> label -> number of labeled items.
    """
    n_by_label = [n for name, n in counts.get(Split.TRAINING, {}).items() if name in project.label_set.names]
    newest = all_models(project.store)[:1]
    return len(n_by_label) > 1 and (not newest or newest[0].n_training != sum(n_by_label))


def minimums_of(project: Project) -> Minimums:
    """The minimums of pal.toml."""
    return Minimums(**project.config.minimums.model_dump())


def _missing(
    counts: Mapping[Split, Mapping[str, int]], minimums: Minimums, pending: Mapping[Split, int]
) -> dict[Split, int]:
    """Split -> number of items missing from its minimum, in the order in which they are queried."""
    missing_by_split = {}
    for split in (Split.EVALUATION, Split.VALIDATION, Split.TRAINING):
        minimum: int = minimums.first_training if split is Split.TRAINING else getattr(minimums, split.value)
        missing = minimum - sum(counts.get(split, {}).values()) - pending.get(split, 0)
        missing_by_split[split] = missing if missing > TOLERATED_SHORTFALL * minimum else 0
    return missing_by_split


def check_context(project: Project) -> None:
    """Check that the columns named in pal.toml exist.

    Raises:
        ConfigError: No item has one of them, or `[sampling] where` is not a condition on columns.
    """
    store, config = project.store, project.config
    check_columns(store, config.batch.context, "[batch] context in pal.toml")
    check_slices(project)
    check_where(store, config.sampling.where)


def check_slices(project: Project) -> None:
    """Make sure that the columns of `[report] slices` are there.

    Raises:
        ConfigError: No item has one of them.
    """
    check_columns(project.store, project.config.report.slices, "[report] slices in pal.toml")


def count_askable(project: Project) -> int:
    """Number of items that fulfill `[sampling] where`; all without a condition."""
    store, where = project.store, project.config.sampling.where
    return count_items(store) if not where else store.rows(f"SELECT count(*) FROM ({matching_items(where)})")[0][0]


def reserve_of(project: Project, n_items: int | None = None) -> Reserve:
    """The evaluation reserve configured in pal.toml, with the items to query next.

    Args:
        n_items: The number of items that may be queried, if the caller has it.
    """
    store, minimums = project.store, minimums_of(project)
    with store.reading():
        n_items = count_askable(project) if n_items is None else n_items
        fitting = fitting_minimums(minimums, n_items)
        size = max(fitting.reserve, min(LEAST_RESERVE, n_items // 10)) if fitting.reserve else 0
        refresh = project.config.evaluation.refresh if size else 0
        return find_reserve(store, fitting.evaluation, min(size, n_items // 2), project.config.sampling.where, refresh)


def plan_next_batch(project: Project, n: int = 0) -> Plan:
    """Plan the next batch: its purpose and the number of items.

    Args:
        project: The project.
        n: Number of items; 0 for that of the plan.
    """
    store, names = project.store, project.label_set.names
    minimums = minimums_of(project)
    with store.reading():
        n_items, pending, labelled = count_askable(project), count_pending(store), label_counts(store)
    fitting = fitting_minimums(minimums, n_items)
    if fitting != minimums:
        numbers = ", ".join(f"{name} = {getattr(fitting, name)}" for name in ("evaluation", "validation", "training"))
        log.warning("[minimums] in pal.toml require all items; until more are imported, these apply: %s.", numbers)
    counts = {split: {name: n for name, n in by_label.items() if name in names} for split, by_label in labelled.items()}
    n_due = len(reserve_of(project, n_items).due) if fitting.evaluation_share else 0
    plan = next_batch_plan(counts, fitting, project.config.batch.size, pending, n_due)
    if not count_pool(store) and len(counts.get(Split.TRAINING, {})) > 1:  # a minimum cannot be reached any more
        plan = replace(plan, active=True)
    n_evaluation = sum(counts.get(Split.EVALUATION, {}).values()) + pending.get(Split.EVALUATION, 0)
    if fitting.evaluation_share and not n_due and n_evaluation < fitting.evaluation:
        log.warning(
            "The evaluation reserve is used up: %d of evaluation = %d in pal.toml. Import more texts or lower it.",
            n_evaluation,
            fitting.evaluation,
        )
    n_before = sum(sum(by_label.values()) for by_label in counts.values()) + sum(pending.values())
    return plan.resized(n, n_before) if n else plan


@dataclass(frozen=True)
class Outlook:
    """The expected result of the next batch.

    Attributes:
        n_answers: Size of the batch; `n_training` of its items are for training.
        expected: Expected average precision, with a 95% interval.
    """

    n_answers: int
    n_training: int
    expected: Metric


def outlook_of(
    project: Project, n_training: int, figures: Mapping[str, Metric], counts: Mapping[Split, Mapping[str, int]]
) -> Outlook | None:
    """The outlook of the production model; None if there are too few evaluation items or positives.

    Args:
        n_training: Its number of training labels.
        figures: Its metrics on the evaluation items.
        counts: Split -> label -> number of labeled items.
    """
    evaluation, minimums = counts.get(Split.EVALUATION, {}), minimums_of(project)
    n_evaluation, positive = sum(evaluation.values()), project.label_set.positive
    least = max(LEAST_EVALUATION, LEAST_EACH * len(project.label_set.names))
    few = n_evaluation < least or (positive and evaluation.get(positive, 0) < LEAST_POSITIVES)
    if few or "ap" not in figures:
        return None
    n_answers = project.config.batch.size
    share = minimums.evaluation_share if n_evaluation < minimums.evaluation else 0.0
    n_more = n_answers - part_of(share, n_answers, 0)
    expected = forecast(figures["ap"], n_training, n_more)
    return Outlook(n_answers, n_more, expected) if expected else None


def signs_of(
    store: Store,
    label_set: LabelSet,
    counts: tuple[int, int] | None = None,
    results: Sequence[BatchResult] | None = None,
) -> tuple[StopSign, ...]:
    """The present stopping criteria.

    Args:
        counts: Numbers of all items and of pool items, if the caller has them.
        results: The results of all batches, if the caller has them.
    """
    n_items, n_pool = counts or count_items_and_pool(store)
    kappas, changes = recent_values(store, SUCCESSIVE, ("kappa", "change_of_f"), WINDOW)
    findings = Findings(
        kappas=kappas,
        changes=changes,
        results=results if results is not None else batch_results(store, UNBIASED, label_set.positive or ""),
        n_items=n_items,
        n_pool=n_pool,
        weighted=weighted_share(store, label_set.positive) if label_set.positive else None,
    )
    return stop_signs(findings, has_positive=label_set.positive is not None)
