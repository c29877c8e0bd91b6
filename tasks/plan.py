"""What the next batch is for, from how many labels there are; and whether more labels would change much."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import TYPE_CHECKING

from annotation.label_set import LabelSet
from storage.lake.annotations import label_counts
from storage.lake.batches import batch_results
from storage.lake.context import check_columns, check_where, matching_items
from storage.lake.evaluation_reserve import Reserve, find_reserve
from storage.lake.items import count_items, count_items_and_pool, count_pending
from storage.lake.models import recent_values
from storage.lake.slices import weighted_share
from storage.lake.store import Store
from storage.records import SUCCESSIVE, Metric, Split, StopSign
from tasks.learning.forecast import LEAST_EACH, LEAST_EVALUATION, LEAST_POSITIVES, forecast
from tasks.learning.stopping import WINDOW, Findings, stop_signs

if TYPE_CHECKING:
    from tasks.project import Project

log = logging.getLogger(__name__)

UNBIASED = ("random",)
"""The strategies whose items are a fair sample of the pool."""

TOLERATED_SHORTFALL = 0.01
"""Share of a minimum that may be missing: a few skipped, unsure or doubled items are no reason for a batch."""


FIRST_BATCH = 50
"""Items of a batch before there is a first model; half of them evaluate it."""

SPARE = 1.25
"""Size of the evaluation reserve, in evaluation items wanted: some are skipped."""

LEAST_RESERVE = 1500
"""Items of the reserve of a large pool, or a tenth of a small one: it cannot grow when the target is raised later."""


@dataclass(frozen=True)
class Minimums:
    """How many labelled items each split needs.

    Attributes:
        evaluation: Wanted in the end.
        validation: Before training items are asked for.
        training: Random answers before a model chooses items; half of them are evaluation items if these have a share.
        evaluation_share: Share of a batch that is from the evaluation reserve until there are enough, 0 to 1; at 0
            evaluation items come first, in batches of their own, drawn at random from the pool.
    """

    evaluation: int = 1200
    validation: int = 0
    training: int = 100
    evaluation_share: float = 0.25

    @property
    def reserve(self) -> int:
        """Items that the evaluation reserve is to have; 0 where evaluation items come first."""
        return ceil(SPARE * self.evaluation) if self.evaluation_share else 0

    @property
    def first_training(self) -> int:
        """Training items before a model chooses: all random answers, or the half of them that is no evaluation."""
        return ceil(self.training / 2) if self.evaluation_share else self.training


@dataclass(frozen=True)
class Plan:
    """The next batch: for which split, how many items, and whether a model chooses them.

    Attributes:
        n_evaluation: Of a training batch's items those of the evaluation reserve.
    """

    purpose: Split
    n: int
    active: bool
    n_evaluation: int = 0

    def resized(self, n: int, n_before: int = 0) -> Plan:
        """The same for n items, after `n_before` of earlier batches.

        >>> Plan(Split.TRAINING, 100, True, 25).resized(10)
        Plan(purpose=<Split.TRAINING: 'training'>, n=10, active=True, n_evaluation=2)
        """
        share = self.n_evaluation / self.n if self.n else 0.0
        return replace(self, n=n, n_evaluation=min(n, part_of(share, n, n_before)))


def part_of(share: float, n: int, n_before: int) -> int:
    """A share of the next n items as a whole number, so that it is right over many batches, however small.

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
    """Small random batches until a first model can learn, then active learning; evaluation grows beside it.

    With an evaluation share of 0, all evaluation items come first.

    Args:
        counts: Split -> label -> labelled items.
        pending: Split -> items that are out with annotators; they count as if they were labelled.
        batch_size: Of an active batch, and of a random one where the training items have one label only.
        n_due: Items of the evaluation reserve that are still to be asked for the minimum to be reached.

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
    several = sum(n > 0 for n in counts.get(Split.TRAINING, {}).values()) > 1
    n_before = sum(sum(by_label.values()) for by_label in counts.values()) + sum((pending or {}).values())
    n_evaluation = min(n_due, part_of(share, batch_size, n_before))
    return Plan(Split.TRAINING, batch_size, active=several, n_evaluation=n_evaluation)


def fitting_minimums(minimums: Minimums, n_items: int) -> Minimums:
    """The minimums as they are; or, where they would use up every item there is, smaller ones.

    Evaluation items that come first get their part of half the items. Those that grow beside training take nothing from
    it: each number is at most half of the items.

    >>> fitting_minimums(Minimums(1200, 200, 100, evaluation_share=0), 400)
    Minimums(evaluation=160, validation=26, training=13, evaluation_share=0)
    >>> fitting_minimums(Minimums(), 600)
    Minimums(evaluation=300, validation=0, training=100, evaluation_share=0.25)
    """
    names = ("evaluation", "validation", "training")
    wanted = {name: int(getattr(minimums, name)) for name in names}
    total = sum(wanted.values())
    if total < n_items or not n_items:
        return minimums
    if minimums.evaluation_share:
        return replace(minimums, **{name: min(n, n_items // 2) for name, n in wanted.items()})
    return replace(minimums, **{name: int(n * n_items / 2 / total) for name, n in wanted.items()})


def answers_before_model(minimums: Minimums, counts: Mapping[Split, Mapping[str, int]], n_items: int) -> int:
    """About how many answers the first model still needs.

    >>> answers_before_model(Minimums(), {}, 5000), answers_before_model(Minimums(evaluation_share=0), {}, 5000)
    (100, 1300)
    """
    fitting = fitting_minimums(minimums, n_items)
    missing = _missing(counts, fitting, {})
    n_training = missing[Split.TRAINING]
    if fitting.evaluation_share:  # as many evaluation items come with them, until there are enough
        return n_training + missing[Split.VALIDATION] + min(n_training, missing[Split.EVALUATION])
    return sum(missing.values())


def minimums_of(project: Project) -> Minimums:
    """The minimums of pal.toml."""
    return Minimums(**project.config.minimums.model_dump())


def _missing(
    counts: Mapping[Split, Mapping[str, int]], minimums: Minimums, pending: Mapping[Split, int]
) -> dict[Split, int]:
    """Split -> items that a minimum still needs, in the order in which they are asked for."""
    found = {}
    for split in (Split.EVALUATION, Split.VALIDATION, Split.TRAINING):
        minimum: int = minimums.first_training if split is Split.TRAINING else getattr(minimums, split.value)
        missing = minimum - sum(counts.get(split, {}).values()) - pending.get(split, 0)
        found[split] = missing if missing > TOLERATED_SHORTFALL * minimum else 0
    return found


def check_context(project: Project) -> None:
    """Make sure that the columns that pal.toml names are there.

    Raises:
        ConfigError: No item has one of them, or `[sampling] where` is no condition on columns.
    """
    store, config = project.store, project.config
    check_columns(store, config.batch.context, "[batch] context in pal.toml")
    check_columns(store, config.report.slices, "[report] slices in pal.toml")
    check_where(store, config.sampling.where)


def count_askable(project: Project) -> int:
    """Number of items that `[sampling] where` lets through: all without one."""
    store, where = project.store, project.config.sampling.where
    return count_items(store) if not where else store.rows(f"SELECT count(*) FROM ({matching_items(where)})")[0][0]


def reserve_of(project: Project) -> Reserve:
    """The evaluation reserve that pal.toml asks for, and what of it is to be asked next."""
    store, minimums = project.store, minimums_of(project)
    with store.reading():
        n_items = count_askable(project)
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
    n_due = len(reserve_of(project).due) if fitting.evaluation_share else 0
    plan = next_batch_plan(counts, fitting, project.config.batch.size, pending, n_due)
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
    """What the next batch is expected to bring.

    Attributes:
        n_answers: Of that batch, and `n_training` of them that are trained on.
        expected: Average precision after it, with a 95 % interval.
    """

    n_answers: int
    n_training: int
    expected: Metric


def outlook_of(
    project: Project, n_training: int, figures: Mapping[str, Metric], counts: Mapping[Split, Mapping[str, int]]
) -> Outlook | None:
    """The outlook of the production model; None where too few evaluation items, or positives, make it a guess.

    Args:
        n_training: Labels that it was trained on.
        figures: Of it on the evaluation items.
        counts: Split -> label -> labelled items.
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


def signs_of(store: Store, label_set: LabelSet, counts: tuple[int, int] | None = None) -> tuple[StopSign, ...]:
    """The stop signs as of now.

    Args:
        counts: How many items there are, and how many of them in the pool; counted where None.
    """
    n_items, n_pool = counts or count_items_and_pool(store)
    findings = Findings(
        kappas=recent_values(store, SUCCESSIVE, "kappa", WINDOW),
        changes=recent_values(store, SUCCESSIVE, "change_of_f", WINDOW),
        results=batch_results(store, UNBIASED, label_set.positive or ""),
        n_items=n_items,
        n_pool=n_pool,
        weighted=weighted_share(store, label_set.positive) if label_set.positive else None,
    )
    return stop_signs(findings, has_positive=label_set.positive is not None)
