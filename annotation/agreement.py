"""Agreement of annotators: percent, kappas, alpha and AC1 with bootstrap intervals; an undefined metric has a reason.

Items with the same answers form one pattern with a count. A resample of the items only changes the counts, so every
metric is a sum over patterns, computed for all resamples in one matrix product.
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
"""Code in a matrix of answers: this annotator did not answer this item."""

N_RESAMPLES = 1000
INTERVAL = (2.5, 97.5)

_CELLS = 4_000_000  # of the matrix of resampled counts that is held in memory at once
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
MetricFunction = Callable[[Floats], dict[str, Floats]]
"""Maps pattern counts (b, n_patterns) to b values of each metric; nan where undefined."""
Values = dict[tuple[str, tuple[int, ...]], Floats]
"""(metric, annotator numbers: none, one or two) -> the value of the data, then those of the resamples."""
Unsure = Literal["missing", "category"]


@dataclass(frozen=True)
class AnswerTable:
    """The answers of all annotators as a matrix.

    Attributes:
        codes: (n_items, n_annotators): the label's position in `labels`, `len(labels)` for unsure, or MISSING.
    """

    item_ids: tuple[str, ...]
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    codes: Ints

    def matrix(self, unsure: Unsure = "missing") -> Ints:
        """The codes (n_items, n_annotators) with unsure as MISSING or as a category after the labels."""
        return self.codes if unsure == "category" else np.where(self.codes == len(self.labels), MISSING, self.codes)


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of two annotators on the n items that both answered."""

    first: str
    second: str
    n: int
    percent: Metric
    kappa: Metric
    ac1: Metric


@dataclass(frozen=True)
class AnnotatorAgreement:
    """Metrics of one annotator.

    Attributes:
        n_answers: Number of answers, including unsure.
        unsure_share: Fraction of the answers that are unsure, 0 to 1.
        n_compared: Items of this annotator on which the others have a single most frequent answer.
        with_others: Fraction of these items on which the annotator gives that answer too.
        n_gold: Answers that count on items with a gold label.
        gold: Fraction of them that are right, with its Wilson interval.
        confusion: Resolved label (to which the annotator's own answer may have contributed) -> answer -> items.
        median_s: Median time of an answer in seconds; None if unknown.
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
    """All metrics of agreement.

    Attributes:
        n_items: Items with an answer.
        n_several: Items with two or more answers that count.
        n_answers: Number of answers, including unsure.
        unsure: Whether unsure was treated as missing or as a category.
        shares: Label -> its fraction of the answers that count, 0 to 1.
        overall: percent_agreement, fleiss_kappa, krippendorff_alpha, gwet_ac1, mean_cohen_kappa.
        pairs: Every pair of annotators, with or without items in common.
        notes: Remarks on the intervals, for the reader.
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
    """Optional knowledge about the items and annotators.

    Attributes:
        resolved: item_id -> the resolved label.
        gold: Annotator -> item_id -> the correct label of gold items; None if there are no gold items.
        seconds: Annotator -> the duration of each answer.
    """

    resolved: Mapping[str, str] = field(default_factory=dict)
    gold: Mapping[str, Mapping[str, str]] | None = None
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)


def answer_table(answers: Sequence[tuple[str, str, str]], labels: Sequence[str]) -> AnswerTable:
    """Arrange the answers as a matrix: items in order of first occurrence, annotators by name.

    Args:
        answers: (item_id, annotator, answer), at most one per item and annotator; a label or `unsure`.
        labels: All labels that could be chosen.

    Raises:
        BatchError: An answer is neither a label nor `unsure`, or an annotator answered an item twice.
    """
    item_ids = tuple(dict.fromkeys(item_id for item_id, _, _ in answers))
    annotators = tuple(sorted({annotator for _, annotator, _ in answers}))
    row = {item_id: number for number, item_id in enumerate(item_ids)}
    column = {annotator: number for number, annotator in enumerate(annotators)}
    codes = _codes([answer for _, _, answer in answers], (*labels, UNSURE))
    matrix = np.full((len(item_ids), len(annotators)), MISSING, np.int64)
    for (item_id, annotator, _), code in zip(answers, codes, strict=True):
        if matrix[row[item_id], column[annotator]] != MISSING:
            raise BatchError(f"{annotator!r} answered item {item_id!r} twice.", hint="Keep the newest answer.")
        matrix[row[item_id], column[annotator]] = code
    return AnswerTable(item_ids, annotators, tuple(labels), matrix)


def agreement(
    answers: Sequence[tuple[str, str, str]],
    labels: Sequence[str],
    generator: np.random.Generator,
    *,
    unsure: Unsure = "missing",
    known: Known | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Agreement:
    """Compute all metrics, overall, per pair and per annotator, with 95% percentile bootstrap intervals over items.

    Resamples in which a metric is undefined are left out of its interval; a note says so.

    Args:
        answers: (item_id, annotator, answer): the newest of each annotator to each item, without skips.
        labels: All labels that could be chosen: AC1 depends on their number.
        unsure: Treat unsure as missing, or as a category like a label.
        known: Resolved labels, gold labels and durations.
        n_resamples: 0 for no intervals.

    Raises:
        BatchError: There are fewer than two labels, an unknown answer or label, or two answers of one annotator to
            one item.
    """
    if len(labels) < 2:
        what = f"Agreement needs at least 2 labels; there are {len(labels)}."
        raise BatchError(what, hint="Add labels under [[labels]] in pal.toml.")
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
        unsure_share=_share(table.codes == len(labels), table.codes >= 0),
        shares=dict(zip(names, (n_used / max(1, n_used.sum())).tolist(), strict=True)),
        overall=_overall(values, rated, names),
        pairs=tuple(_pairs(values, rated, names, table.annotators)),
        annotators=tuple(_annotators(values, table, unsure, known or Known())),
        notes=tuple(_notes(values, n_resamples)),
    )


def overall_metrics(patterns: Ints, n_categories: int) -> MetricFunction:
    """Percent agreement, Fleiss kappa, Krippendorff alpha (nominal) and Gwet AC1 of all annotators.

    Items may have any number of answers. Percent agreement is the fraction of an item's pairs of answers that agree,
    averaged over items with two or more answers. Fleiss kappa and AC1 correct it for chance; their chance agreement
    follows from the share of each category, averaged over all items with equal weight, including items with one
    answer. Alpha weights an item by its number of answers and ignores items with one.

    Source: Fleiss (1971) and Gwet (2008) as generalized in Gwet (2014); Krippendorff (2011).

    Args:
        patterns: (n_patterns, n_annotators); each has at least one answer.
    """
    counts = _counts(patterns, n_categories)
    n = counts.sum(axis=1)
    several, agreeing = n >= 2, (counts * (counts - 1)).sum(axis=1)
    columns = [several, agreeing / np.maximum(1, n * (n - 1)), agreeing / np.maximum(1, n - 1)]
    summed = np.column_stack([*columns, counts / np.maximum(1, n)[:, None], counts * several[:, None]])

    def metrics(weights: Floats) -> dict[str, Floats]:
        sums = weights @ summed
        percent = _ratio(sums[:, 1], sums[:, 0])
        shares = _ratio(sums[:, 3 : 3 + n_categories], weights.sum(axis=1, keepdims=True))
        n_answers = sums[:, 3 + n_categories :]
        total = n_answers.sum(axis=1)
        chance = _ratio((n_answers * (n_answers - 1)).sum(axis=1), total * (total - 1))
        return {
            "percent_agreement": percent,
            "fleiss_kappa": _corrected(percent, (shares**2).sum(axis=1)),
            "krippendorff_alpha": _corrected(_ratio(sums[:, 2], total), chance),
            "gwet_ac1": _corrected(percent, (shares * (1 - shares)).sum(axis=1) / (n_categories - 1)),
        }

    return metrics


def pair_metrics(first: Ints, second: Ints, n_categories: int) -> MetricFunction:
    """Percent agreement, Cohen kappa and Gwet AC1 of two annotators on the items that both answered.

    Source: Cohen (1960), Gwet (2008).

    Args:
        first: (n_patterns,), codes of the first annotator.
        second: (n_patterns,), codes of the second annotator.
    """
    both = np.flatnonzero((first >= 0) & (second >= 0))
    categories = np.arange(n_categories)
    by_first, by_second = first[both, None] == categories, second[both, None] == categories
    summed = np.column_stack([first[both] == second[both], by_first, by_second]).astype(np.float64)

    def metrics(weights: Floats) -> dict[str, Floats]:
        common = weights[:, both]
        shares = _ratio(common @ summed, common.sum(axis=1, keepdims=True))
        percent, of_first, of_second = shares[:, 0], shares[:, 1 : 1 + n_categories], shares[:, 1 + n_categories :]
        mean = (of_first + of_second) / 2
        return {
            "percent_agreement": percent,
            "cohen_kappa": _corrected(percent, (of_first * of_second).sum(axis=1)),
            "gwet_ac1": _corrected(percent, (mean * (1 - mean)).sum(axis=1) / (n_categories - 1)),
        }

    return metrics


def others_metrics(answers: Ints, counts: Ints) -> MetricFunction:
    """Fraction of the items on which an annotator gives the most frequent answer of the others.

    Items without other answers, or with a tie among them, are left out.

    Args:
        answers: (n_patterns,), codes of the annotator.
        counts: (n_patterns, n_categories), how many annotators gave each answer, including this one.
    """
    compared, alike = _beside_others(answers, counts)

    def metrics(weights: Floats) -> dict[str, Floats]:
        return {"agreement_with_others": _ratio(weights @ alike, weights @ compared)}

    return metrics


def as_table(result: Agreement) -> dict[str, Any]:
    """Convert to plain dictionaries, lists and numbers, for JSON."""
    return asdict(result)


def _bootstrapped(rated: Ints, n_categories: int, generator: np.random.Generator, n_resamples: int) -> Values:
    """Every metric on the items themselves, then on each resample: (1 + n_resamples,)."""
    patterns, pattern_of_item = np.unique(rated, axis=0, return_inverse=True)
    counts = _counts(patterns, n_categories)
    groups: dict[tuple[int, ...], MetricFunction] = {(): overall_metrics(patterns, n_categories)}
    groups |= {(number,): others_metrics(patterns[:, number], counts) for number in range(rated.shape[1])}
    for first, second in combinations(range(rated.shape[1]), 2):
        groups[first, second] = pair_metrics(patterns[:, first], patterns[:, second], n_categories)
    chunks: dict[tuple[str, tuple[int, ...]], list[Floats]] = {}
    for weights in _weights(pattern_of_item.ravel(), len(patterns), generator, n_resamples):
        for numbers, metrics in groups.items():
            for name, metric_values in metrics(weights).items():
                chunks.setdefault((name, numbers), []).append(metric_values)
    values = {key: np.concatenate(parts) for key, parts in chunks.items()}
    kappas = np.array([kappa for (name, _), kappa in values.items() if name == "cohen_kappa"])
    kappas = kappas.reshape(-1, 1 + n_resamples)
    values["mean_cohen_kappa", ()] = _ratio(np.nansum(kappas, axis=0), (~np.isnan(kappas)).sum(axis=0))
    return values


def _weights(
    pattern_of_item: Ints, n_patterns: int, generator: np.random.Generator, n_resamples: int
) -> Iterator[Floats]:
    """Counts of the patterns, (b, n_patterns) at a time: among the items, then in each resample."""
    n = len(pattern_of_item)
    step = max(1, _CELLS // max(1, n_patterns))
    for start in range(0, 1 + n_resamples, step):
        samples = (
            pattern_of_item[generator.integers(0, n, n)] if number and n else pattern_of_item
            for number in range(start, min(start + step, 1 + n_resamples))
        )
        yield np.stack([np.bincount(sample, minlength=n_patterns) for sample in samples]).astype(np.float64)


def _counts(matrix: Ints, n_categories: int) -> Ints:
    """How many annotators gave each answer to each item, (n_items, n_categories)."""
    return np.stack([(matrix == category).sum(axis=1) for category in range(n_categories)], axis=1)


def _beside_others(answers: Ints, counts: Ints) -> tuple[Bools, Bools]:
    """Masks: the answers that can be compared with one most frequent answer of the others, and those equal to it."""
    one_hot = answers[:, None] == np.arange(counts.shape[1])
    other_counts = counts - one_hot
    most_frequent = other_counts == other_counts.max(axis=1, keepdims=True)
    compared = one_hot.any(axis=1) & (most_frequent.sum(axis=1) == 1)
    return compared, compared & (most_frequent & one_hot).any(axis=1)


def _overall(values: Values, rated: Ints, names: Sequence[str]) -> tuple[Metric, ...]:
    several = _several(rated)
    reason = "no item has answers from two annotators"
    if len(several):
        reason = f"all answers to items with two or more answers are {names[several.max()]!r}"
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
    known: Known,
) -> Iterator[AnnotatorAgreement]:
    matrix, n_labels = table.matrix(unsure), len(table.labels)
    resolved_codes = _labels_of(table, known.resolved)
    counts = _counts(matrix, n_labels + 1)
    for number, annotator in enumerate(table.annotators):
        codes, counted = table.codes[:, number], matrix[:, number]
        gold_codes = _labels_of(table, (known.gold or {}).get(annotator, {}))
        has_gold = (counted >= 0) & (gold_codes >= 0)
        reason = "the other annotators have no single most frequent answer on any of the items"
        yield AnnotatorAgreement(
            annotator,
            n_answers=int((codes >= 0).sum()),
            unsure_share=_share(codes == n_labels, codes >= 0),
            n_compared=int(_beside_others(counted, counts)[0].sum()),
            with_others=_metric("agreement_with_others", values["agreement_with_others", (number,)], reason),
            n_gold=int(has_gold.sum()),
            gold=_gold_metric((counted == gold_codes)[has_gold], has_labels=known.gold is not None),
            confusion=_confusion(resolved_codes, codes, table.labels),
            median_s=float(median(known.seconds[annotator])) if known.seconds.get(annotator) else None,
        )


def _confusion(resolved: Ints, codes: Ints, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    cells = np.zeros((len(labels), len(labels) + 1), np.int64)
    both = (resolved >= 0) & (codes >= 0)
    np.add.at(cells, (resolved[both], codes[both]), 1)
    rows = (dict(zip((*labels, UNSURE), row, strict=True)) for row in cells.tolist())
    return dict(zip(labels, rows, strict=True))


def _gold_metric(right: Bools, *, has_labels: bool) -> Metric:
    if not len(right):
        reason = "no item with a gold label is answered" if has_labels else "there are no gold labels"
        return Metric("gold_accuracy", None, reason=reason)
    from scipy.stats import binomtest

    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Metric("gold_accuracy", float(right.mean()), float(interval.low), float(interval.high))


def _metric(name: str, values: Floats, reason: str) -> Metric:
    """The first value, with the interval of the others that are defined."""
    if np.isnan(values[0]):
        return Metric(name, None, reason=reason)
    defined = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(defined, INTERVAL).tolist() if len(defined) else (None, None)
    return Metric(name, float(values[0]), low, high)


def _notes(values: Values, n_resamples: int) -> Iterator[str]:
    kappas = [kappa[0] for (name, _), kappa in values.items() if name == "cohen_kappa"]
    n_kappas = int((~np.isnan(kappas)).sum())
    if 0 < n_kappas < len(kappas):
        yield f"The mean Cohen kappa is the mean over the {n_kappas} of {len(kappas)} pairs that have a kappa."
    resampled = {key: draws for key, draws in values.items() if n_resamples and not np.isnan(draws[0])}
    n_undefined = [int(np.isnan(draws).sum()) for draws in resampled.values()]
    if any(n_undefined):
        yield (
            f"Metrics undefined in some resamples: {np.count_nonzero(n_undefined)}, in at most {max(n_undefined)} of "
            f"{n_resamples}; their intervals are over the other resamples."
        )
    if any(np.nanmin(draws) == np.nanmax(draws) for draws in resampled.values()):
        yield "An interval of zero width means that all resamples are equal; with few items it guarantees nothing."
    if mean := [draws for (name, _), draws in resampled.items() if name == "mean_cohen_kappa"]:
        low, high = np.nanpercentile(mean[0][1:], INTERVAL)
        if not low - 1e-9 <= mean[0][0] <= high + 1e-9:
            yield "The mean Cohen kappa is outside its interval: with few items, kappas are lower in resamples."


def _labels_of(table: AnswerTable, labels: Mapping[str, str]) -> Ints:
    """The code of each item's label (n_items,); MISSING for an item without one."""
    labeled = [number for number, item_id in enumerate(table.item_ids) if item_id in labels]
    codes = np.full(len(table.item_ids), MISSING, np.int64)
    codes[labeled] = _codes([labels[table.item_ids[number]] for number in labeled], table.labels)
    return codes


def _codes(names: Sequence[str], allowed: Sequence[str]) -> list[int]:
    position = {name: number for number, name in enumerate(allowed)}
    if unknown := sorted(set(names) - position.keys()):
        what = f"{', '.join(map(repr, unknown))} is not one of {', '.join(allowed)}."
        raise BatchError(what, hint="Add the label to pal.toml again, or leave these answers out.")
    return [position[name] for name in names]


def _several(rated: Ints) -> Ints:
    """The rows of items with two or more answers."""
    several: Ints = rated[(rated >= 0).sum(axis=1) >= 2]
    return several


def _ratio(part: Floats, total: Floats | Ints) -> Floats:
    """`part / total`; nan where `total` is 0."""
    ratio: Floats = np.divide(part, total, out=np.full(np.shape(part), np.nan), where=total > 0)
    return ratio


def _corrected(observed: Floats, chance: Floats) -> Floats:
    """Agreement corrected for chance; nan where chance agreement is 1."""
    return _ratio(observed - chance, 1 - chance)


def _share(part: Bools, total: Bools) -> float:
    return float(part.sum() / max(1, total.sum()))
