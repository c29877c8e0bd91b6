"""How far annotators agree: percent, kappas, alpha and AC1 with bootstrap intervals; an undefined one has its reason.

Items answered alike are one pattern with a count. A resample of the items only changes the counts, so that every
figure is sums over patterns, taken for all resamples in one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from annotation.label_set import UNSURE
from storage.errors import BatchError
from storage.records import Metric

MISSING = -1
"""In a matrix of answers: this annotator did not answer this item."""

N_RESAMPLES = 1000
INTERVAL = (2.5, 97.5)

_CELLS = 4_000_000
OVERALL = {
    "percent_agreement": "percent agreement",
    "fleiss_kappa": "Fleiss kappa",
    "krippendorff_alpha": "Krippendorff alpha",
    "gwet_ac1": "Gwet AC1",
    "mean_cohen_kappa": "mean Cohen kappa",
}
_OF_A_PAIR = ("percent_agreement", "cohen_kappa", "gwet_ac1")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Figures = Callable[[Floats], dict[str, Floats]]
"""Counts (b, n_patterns) to b values of each figure; nan where undefined."""
Values = dict[tuple[str, tuple[int, ...]], Floats]
"""A figure and whose it is (nobody's, an annotator's, a pair's) to its value and those of the resamples."""
Unsure = Literal["missing", "category"]


@dataclass(frozen=True)
class AnswerTable:
    """Who answered what.

    Attributes:
        given: (n_items, n_annotators): the label's position in `labels`, their number for unsure, or MISSING.
    """

    item_ids: tuple[str, ...]
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    given: Ints

    def matrix(self, unsure: Unsure = "missing") -> Ints:
        """The answers (n_items, n_annotators) that count: unsure is MISSING, or a category after the labels."""
        return self.given if unsure == "category" else np.where(self.given == len(self.labels), MISSING, self.given)


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators on the n items that both answered; the metrics are percent_agreement, cohen_kappa, gwet_ac1."""

    first: str
    second: str
    n: int
    percent: Metric
    kappa: Metric
    ac1: Metric


@dataclass(frozen=True)
class AnnotatorAgreement:
    """One annotator.

    Attributes:
        n_answers: Unsure ones included.
        unsure_share: Of the answers, 0 to 1.
        n_compared: Items of this annotator on which the others have one most frequent answer.
        with_others: Share of these items on which the annotator gives that answer too.
        n_gold: Answers that count on items with a gold label.
        gold: Share of them that are right, with its Wilson interval.
        confusion: Resolved label (to which the annotator's own answer may have contributed) -> answer -> items.
        median_s: Median time of an answer; None where it is not known.
    """

    annotator: str
    n_answers: int
    unsure_share: float
    n_compared: int
    with_others: Metric
    n_gold: int
    gold: Metric
    confusion: dict[str, dict[str, int]]
    median_s: float | None


@dataclass(frozen=True)
class Agreement:
    """Everything about the agreement of annotators.

    Attributes:
        n_items: Items answered.
        n_several: Of them those with two or more answers that count.
        n_answers: Unsure ones included.
        unsure: Whether unsure was left out as missing, or counted as a category.
        shares: Label -> its share of the answers that count, 0 to 1.
        overall: percent_agreement, fleiss_kappa, krippendorff_alpha, gwet_ac1, mean_cohen_kappa.
        pairs: Every two annotators, whether they have items in common or not.
        notes: What to know about the intervals, in words.
    """

    n_items: int
    n_several: int
    n_answers: int
    unsure: Unsure
    unsure_share: float
    shares: dict[str, float]
    overall: tuple[Metric, ...]
    pairs: tuple[PairAgreement, ...]
    annotators: tuple[AnnotatorAgreement, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What is known beside the answers.

    Attributes:
        resolved: item_id -> the label that the item got in the end.
        gold: Annotator -> item_id -> the right label, of items sent out to see how well annotators do; None: no gold.
        seconds: Annotator -> how long each answer took.
    """

    resolved: Mapping[str, str] = field(default_factory=dict)
    gold: Mapping[str, Mapping[str, str]] | None = None
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)


def answer_table(answers: Sequence[tuple[str, str, str]], labels: Sequence[str]) -> AnswerTable:
    """The answers as a matrix: items in the order in which they first occur, annotators by name.

    Args:
        answers: (item_id, annotator, answer); one of an annotator to an item, a label or `unsure`.
        labels: All that could be chosen, used or not.

    Raises:
        BatchError: An answer is neither, or there are two of one annotator to one item.
    """
    item_ids = tuple(dict.fromkeys(item_id for item_id, _, _ in answers))
    annotators = tuple(sorted({annotator for _, annotator, _ in answers}))
    row = {item_id: number for number, item_id in enumerate(item_ids)}
    column = {annotator: number for number, annotator in enumerate(annotators)}
    codes = _codes([answer for _, _, answer in answers], (*labels, UNSURE))
    given = np.full((len(item_ids), len(annotators)), MISSING, np.int64)
    for (item_id, annotator, _), code in zip(answers, codes, strict=True):
        if given[row[item_id], column[annotator]] != MISSING:
            raise BatchError(f"{annotator!r} answered item {item_id!r} twice.", hint="keep the newest answer.")
        given[row[item_id], column[annotator]] = code
    return AnswerTable(item_ids, annotators, tuple(labels), given)


def agreement(
    answers: Sequence[tuple[str, str, str]],
    labels: Sequence[str],
    generator: np.random.Generator,
    *,
    unsure: Unsure = "missing",
    known: Known | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Agreement:
    """Every figure of agreement, of all, of pairs and of annotators, with 95 % percentile bootstrap over items.

    Where a resample leaves a figure undefined, its interval is over the others, and a note says so.

    Args:
        answers: (item_id, annotator, answer): the newest of each annotator to each item, without skips.
        labels: All that could be chosen: AC1 depends on their number.
        unsure: Left out as if not answered, or a category like a label.
        known: What else is known of the items and the answers.
        n_resamples: With 0 there are no intervals.

    Raises:
        BatchError: Fewer than two labels, an answer or a label that is none of them, or two answers of one annotator
            to one item.
    """
    if len(labels) < 2:
        raise BatchError(f"{len(labels)} labels.", hint="agreement needs at least 2; see [[labels]] in pal.toml.")
    table = answer_table(answers, labels)
    matrix, names = table.matrix(unsure), (*labels, UNSURE) if unsure == "category" else tuple(labels)
    rated = matrix[(matrix >= 0).any(axis=1)]
    values = _bootstrapped(rated, len(names), generator, n_resamples)
    n_used = np.bincount(rated[rated >= 0], minlength=len(names))
    return Agreement(
        n_items=len(table.item_ids),
        n_several=len(_several(rated)),
        n_answers=len(answers),
        unsure=unsure,
        unsure_share=_share(table.given == len(labels), table.given >= 0),
        shares=dict(zip(names, (n_used / max(1, n_used.sum())).tolist(), strict=True)),
        overall=_overall(values, rated, names),
        pairs=tuple(_pairs(values, rated, names, table.annotators)),
        annotators=tuple(_annotators(values, table, unsure, known or Known())),
        notes=tuple(_notes(values, n_resamples)),
    )


def overall_figures(patterns: Ints, n_categories: int) -> Figures:
    """Percent agreement, Fleiss kappa, Krippendorff alpha (nominal) and Gwet AC1 of all annotators.

    Items may have any number of answers. Percent agreement is the mean over items with two or more of the share of an
    item's pairs of answers that agree. Fleiss kappa and AC1 take it from there; their chance agreement follows from
    each category's share, the mean over all items of its share of the item's answers: an item with one answer counts,
    and each item counts the same. Alpha weighs an item by its answers and leaves out those with one.

    Source: Fleiss (1971) and Gwet (2008) as generalised in Gwet (2014); Krippendorff (2011).

    Args:
        patterns: (n_patterns, n_annotators), none without an answer.
    """
    counts = _counts(patterns, n_categories)
    n = counts.sum(axis=1)
    several, agreeing = n >= 2, (counts * (counts - 1)).sum(axis=1)
    columns = [several, agreeing / np.maximum(1, n * (n - 1)), agreeing / np.maximum(1, n - 1)]
    summed = np.column_stack([*columns, counts / np.maximum(1, n)[:, None], counts * several[:, None]])

    def figures(weights: Floats) -> dict[str, Floats]:
        sums = weights @ summed
        percent = _ratio(sums[:, 1], sums[:, 0])
        shares = _ratio(sums[:, 3 : 3 + n_categories], weights.sum(axis=1, keepdims=True))
        each = sums[:, 3 + n_categories :]
        total = each.sum(axis=1)
        chance = _ratio((each * (each - 1)).sum(axis=1), total * (total - 1))
        return {
            "percent_agreement": percent,
            "fleiss_kappa": _corrected(percent, (shares**2).sum(axis=1)),
            "krippendorff_alpha": _corrected(_ratio(sums[:, 2], total), chance),
            "gwet_ac1": _corrected(percent, (shares * (1 - shares)).sum(axis=1) / (n_categories - 1)),
        }

    return figures


def pair_figures(first: Ints, second: Ints, n_categories: int) -> Figures:
    """Percent agreement, Cohen kappa and Gwet AC1 of two annotators on what both answered.

    Source: Cohen (1960), Gwet (2008).

    Args:
        first: (n_patterns,), the one's answers.
        second: (n_patterns,), the other's.
    """
    both = np.flatnonzero((first >= 0) & (second >= 0))
    categories = np.arange(n_categories)
    one, other = first[both, None] == categories, second[both, None] == categories
    summed = np.column_stack([first[both] == second[both], one, other]).astype(np.float64)

    def figures(weights: Floats) -> dict[str, Floats]:
        common = weights[:, both]
        shares = _ratio(common @ summed, common.sum(axis=1, keepdims=True))
        percent, of_one, of_other = shares[:, 0], shares[:, 1 : 1 + n_categories], shares[:, 1 + n_categories :]
        mean = (of_one + of_other) / 2
        return {
            "percent_agreement": percent,
            "cohen_kappa": _corrected(percent, (of_one * of_other).sum(axis=1)),
            "gwet_ac1": _corrected(percent, (mean * (1 - mean)).sum(axis=1) / (n_categories - 1)),
        }

    return figures


def others_figures(answers: Ints, counts: Ints) -> Figures:
    """Share of the items on which an annotator gives the answer that the others give most often.

    Items on which several answers of the others are equally frequent, or nobody else's is there, are left out.

    Args:
        answers: (n_patterns,), the annotator's.
        counts: (n_patterns, n_categories), how many annotators gave each answer, this one included.
    """
    compared, alike = _beside_others(answers, counts)

    def figures(weights: Floats) -> dict[str, Floats]:
        return {"agreement_with_others": _ratio(weights @ alike, weights @ compared)}

    return figures


def as_table(found: Agreement) -> dict[str, Any]:
    """Everything as plain dictionaries, lists and numbers, for JSON."""
    return asdict(found)


def _bootstrapped(rated: Ints, n_categories: int, generator: np.random.Generator, n_resamples: int) -> Values:
    """Every figure of everyone on the items themselves and on each resample: (1 + n_resamples,)."""
    patterns, pattern_of_item = np.unique(rated, axis=0, return_inverse=True)
    counts = _counts(patterns, n_categories)
    groups: dict[tuple[int, ...], Figures] = {(): overall_figures(patterns, n_categories)}
    groups |= {(one,): others_figures(patterns[:, one], counts) for one in range(rated.shape[1])}
    for one, other in combinations(range(rated.shape[1]), 2):
        groups[one, other] = pair_figures(patterns[:, one], patterns[:, other], n_categories)
    chunks: dict[tuple[str, tuple[int, ...]], list[Floats]] = {}
    for weights in _weights(pattern_of_item.ravel(), len(patterns), generator, n_resamples):
        for who, figures in groups.items():
            for name, found in figures(weights).items():
                chunks.setdefault((name, who), []).append(found)
    values = {key: np.concatenate(parts) for key, parts in chunks.items()}
    kappas = np.array([found for (name, _), found in values.items() if name == "cohen_kappa"])
    kappas = kappas.reshape(-1, 1 + n_resamples)
    values["mean_cohen_kappa", ()] = _ratio(np.nansum(kappas, axis=0), (~np.isnan(kappas)).sum(axis=0))
    return values


def _weights(
    pattern_of_item: Ints, n_patterns: int, generator: np.random.Generator, n_resamples: int
) -> Iterator[Floats]:
    """How often each pattern occurs, (b, n_patterns) at a time: among the items, then in each draw of as many."""
    n = len(pattern_of_item)
    step = max(1, _CELLS // max(1, n_patterns))
    for start in range(0, 1 + n_resamples, step):
        drawn = (
            pattern_of_item[generator.integers(0, n, n)] if number and n else pattern_of_item
            for number in range(start, min(start + step, 1 + n_resamples))
        )
        yield np.stack([np.bincount(each, minlength=n_patterns) for each in drawn]).astype(np.float64)


def _counts(matrix: Ints, n_categories: int) -> Ints:
    """How many annotators gave each answer to each item, (n_items, n_categories)."""
    return np.stack([(matrix == category).sum(axis=1) for category in range(n_categories)], axis=1)


def _beside_others(answers: Ints, counts: Ints) -> tuple[Bools, Bools]:
    """Where an annotator's answer stands beside one most frequent answer of the others, and where it is the same."""
    own = answers[:, None] == np.arange(counts.shape[1])
    others = counts - own
    most = others == others.max(axis=1, keepdims=True)
    compared = own.any(axis=1) & (most.sum(axis=1) == 1)
    return compared, compared & (most & own).any(axis=1)


def _overall(values: Values, rated: Ints, names: Sequence[str]) -> tuple[Metric, ...]:
    several = _several(rated)
    reason = "no item has answers of two annotators"
    if len(several):
        reason = f"every answer to an item with two or more is {names[several.max()]!r}"
    return tuple(_metric(name, values[name, ()], reason) for name in OVERALL)


def _pairs(values: Values, rated: Ints, names: Sequence[str], annotators: Sequence[str]) -> Iterator[PairAgreement]:
    for pair in combinations(range(len(annotators)), 2):
        common = rated[:, pair][(rated[:, pair] >= 0).all(axis=1)]
        reason = f"both answered only {names[common.max()]!r}" if len(common) else "they have no item in common"
        percent, kappa, ac1 = (_metric(name, values[name, pair], reason) for name in _OF_A_PAIR)
        yield PairAgreement(annotators[pair[0]], annotators[pair[1]], len(common), percent, kappa, ac1)


def _annotators(
    values: Values,
    table: AnswerTable,
    unsure: Unsure,
    more: Known,
) -> Iterator[AnnotatorAgreement]:
    matrix, n_labels = table.matrix(unsure), len(table.labels)
    resolved_codes = _labels_of(table, more.resolved)
    counts = _counts(matrix, n_labels + 1)
    for number, annotator in enumerate(table.annotators):
        given, counted = table.given[:, number], matrix[:, number]
        gold_codes = _labels_of(table, (more.gold or {}).get(annotator, {}))
        known = (counted >= 0) & (gold_codes >= 0)
        reason = "on none of the items do others have one most frequent answer"
        yield AnnotatorAgreement(
            annotator,
            n_answers=int((given >= 0).sum()),
            unsure_share=_share(given == n_labels, given >= 0),
            n_compared=int(_beside_others(counted, counts)[0].sum()),
            with_others=_metric("agreement_with_others", values["agreement_with_others", (number,)], reason),
            n_gold=int(known.sum()),
            gold=_gold_metric((counted == gold_codes)[known], given=more.gold is not None),
            confusion=_confusion(resolved_codes, given, table.labels),
            median_s=float(median(more.seconds[annotator])) if more.seconds.get(annotator) else None,
        )


def _confusion(resolved: Ints, given: Ints, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    cells = np.zeros((len(labels), len(labels) + 1), np.int64)
    both = (resolved >= 0) & (given >= 0)
    np.add.at(cells, (resolved[both], given[both]), 1)
    rows = (dict(zip((*labels, UNSURE), row, strict=True)) for row in cells.tolist())
    return dict(zip(labels, rows, strict=True))


def _gold_metric(right: Bools, *, given: bool) -> Metric:
    if not len(right):
        reason = "no item with a gold label is answered" if given else "there are no gold labels"
        return Metric("gold_accuracy", None, reason=reason)
    from scipy.stats import binomtest

    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Metric("gold_accuracy", float(right.mean()), float(interval.low), float(interval.high))


def _metric(name: str, values: Floats, reason: str) -> Metric:
    """The first value, with the interval of the others as far as they are defined."""
    if np.isnan(values[0]):
        return Metric(name, None, reason=reason)
    defined = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(defined, INTERVAL).tolist() if len(defined) else (None, None)
    return Metric(name, float(values[0]), low, high)


def _notes(values: Values, n_resamples: int) -> Iterator[str]:
    """What to know about the intervals."""
    kappas = [found[0] for (name, _), found in values.items() if name == "cohen_kappa"]
    n_kappas = int((~np.isnan(kappas)).sum())
    if 0 < n_kappas < len(kappas):
        yield f"The mean Cohen kappa is over {n_kappas} of {len(kappas)} pairs, those that have a kappa."
    resampled = {key: found for key, found in values.items() if n_resamples and not np.isnan(found[0])}
    lacking = [int(np.isnan(found).sum()) for found in resampled.values()]
    if any(lacking):
        yield (
            f"Figures without a value in some resamples: {np.count_nonzero(lacking)}, in {max(lacking)} of "
            f"{n_resamples} at most; their intervals are over the other resamples."
        )
    if any(np.nanmin(found) == np.nanmax(found) for found in resampled.values()):
        yield "An interval without width only says that all resamples are alike: with few items it promises nothing."
    if mean := [found for (name, _), found in resampled.items() if name == "mean_cohen_kappa"]:
        low, high = np.nanpercentile(mean[0][1:], INTERVAL)
        if not low - 1e-9 <= mean[0][0] <= high + 1e-9:
            yield "The mean Cohen kappa lies outside of its interval: in resamples of few items kappas come out lower."


def _labels_of(table: AnswerTable, labels: Mapping[str, str]) -> Ints:
    """The position of each item's label (n_items,), MISSING where it has none."""
    known = [number for number, item_id in enumerate(table.item_ids) if item_id in labels]
    codes = np.full(len(table.item_ids), MISSING, np.int64)
    codes[known] = _codes([labels[table.item_ids[number]] for number in known], table.labels)
    return codes


def _codes(names: Sequence[str], allowed: Sequence[str]) -> list[int]:
    position = {name: number for number, name in enumerate(allowed)}
    if unknown := sorted(set(names) - position.keys()):
        what = f"{', '.join(map(repr, unknown))} is none of: {', '.join(allowed)}."
        raise BatchError(what, hint="put the label back into pal.toml, or leave these answers out.")
    return [position[name] for name in names]


def _several(rated: Ints) -> Ints:
    """The items with two or more answers."""
    several: Ints = rated[(rated >= 0).sum(axis=1) >= 2]
    return several


def _ratio(part: Floats, whole: Floats | Ints) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _corrected(observed: Floats, chance: Floats) -> Floats:
    """How much of the agreement that chance leaves open there is; nan where chance leaves nothing open."""
    return _ratio(observed - chance, 1 - chance)


def _share(part: Bools, whole: Bools) -> float:
    return float(part.sum() / max(1, whole.sum()))
