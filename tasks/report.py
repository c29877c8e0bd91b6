"""Stage `write_report`: gather the contents of a report from the lake and the production model, and write the page.

Stage `watch_drift` compares the texts of the newest imports with the older ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import ModelError
from storage.files.folders import write_whole
from storage.lake.annotations import label_counts
from storage.lake.annotators import answers_by_day, people
from storage.lake.batches import Progress, batch_results, open_batches
from storage.lake.items import count_pool
from storage.lake.models import (
    StrategyResult,
    decisions,
    learning_curve,
    metrics_of,
    production_model,
    strategy_results,
)
from storage.lake.slices import RecentTexts, earlier_texts, recent_texts
from storage.lake.store import Store
from storage.records import Metric, RunRecord, Split
from tasks.learning.drift import Drift, NewWord, drift, new_words
from tasks.learning.families import directions
from tasks.learning.metrics import calibration_bins, confusion, precision_recall, worst_mistakes
from tasks.learning.stopping import advice, wilson_interval
from tasks.plan import UNBIASED, check_slices, outlook_of, signs_of
from tasks.predict_file import model_in_production
from tasks.prepare import open_model
from tasks.project import Project
from tasks.reporting.charts import Point
from tasks.reporting.report_page import CURVES, TITLES, Mistake, OnEvaluation, Report, figure_text, report_page
from tasks.sentence_vectors import predict_stored

if TYPE_CHECKING:
    from tasks.evaluate import HeldOut
    from tasks.learning.model_files import LoadedModel
    from tasks.promote import ModelChange

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenReport:
    """A report and where it was written."""

    report: Report
    pages: tuple[Path, ...]


def write_report(project: Project, run_id: str, held_out: dict[str, HeldOut] | None = None) -> WrittenReport:
    """Write `reports/<run_id>.html` and `reports/latest.html`; the arguments are those of `report_of`."""
    report = report_of(project, run_id, held_out)
    pages = (project.workspace.reports / f"{run_id}.html", project.workspace.reports / "latest.html")
    write_page(report, *pages)
    log.info("Wrote the report %s", pages[0])
    return WrittenReport(report, pages)


def learning_curve_rows(report: Report) -> list[dict[str, Any]]:
    """A row for each model: its labels, its metrics and the number of items they are measured on."""
    return [
        {
            "model": point.model_id,
            "labels": point.n_training,
            **{TITLES[name]: figure_text(point.figures[name]) for name in CURVES if name in point.figures},
            "evaluation items": point.n_measured,
            "status": point.status.value,
        }
        for point in report.models
    ]


def batch_rows(report: Report) -> list[dict[str, Any]]:
    """A row for each batch: its items, answers, labels and positives."""
    return [
        {
            "batch": batch.batch_id,
            "for": batch.purpose.value,
            "items": batch.n,
            "answered": batch.n_answered,
            "labelled": batch.n_labelled,
            report.positive or "positive": batch.n_positive,
        }
        for batch in report.batches
    ]


N_MISTAKES = 20
N_RUNS = 10
N_DAYS = 14
MOST_RUNS = 100
"""The number of newest runs that are searched for one that already reported the drift."""


def report_of(project: Project, run_id: str | None = None, held_out: dict[str, HeldOut] | None = None) -> Report:
    """Gather the contents of a report as of now.

    Args:
        run_id: The run that the report is about.
        held_out: Model id -> what the run predicted for the evaluation items; what is missing is predicted.

    Raises:
        ConfigError: No item has a column that `[report] slices` names.
    """
    with project.store.reading():
        if held_out is None:  # a run has checked them
            check_slices(project)
        return _report(project, run_id, held_out or {})


def _report(project: Project, run_id: str | None, held_out: dict[str, HeldOut]) -> Report:
    workspace, label_set = project.workspace, project.label_set
    store = project.store
    model, positive = production_model(store), label_set.positive
    promotions = [row for row in decisions(store) if model and row.model_id == model.model_id and row.promoted]
    metrics = metrics_of(store, model.model_id, Split.EVALUATION) if model else {}
    counts, open_ = label_counts(store), open_batches(store)
    batches = batch_results(store, UNBIASED, positive or "")
    signs = signs_of(store, label_set, results=batches) if model else ()
    strategies = strategy_results(store, positive) if positive else []
    newest_runs = workspace.runs().recent(MOST_RUNS)
    runs = newest_runs[:N_RUNS]
    watched, curve = watch_drift(project), learning_curve(store)
    return Report(
        task=label_set.name,
        workspace=str(workspace.root),
        made_at=datetime.now(UTC),
        lake_version=store.version(),
        code_version=installed_version("pytorch-active-learning"),
        state=_state(counts, open_, model.model_id if model else None),
        next=_next(store, open_),
        positive=positive,
        model_id=model.model_id if model else None,
        decision=f"since {promotions[0].decided_at:%Y-%m-%d %H:%M} UTC: {promotions[0].reason}" if promotions else "",
        figures=_overall(metrics),
        models=curve,
        batches=batches,
        strategies=strategies,
        evaluation=_on_evaluation(project, model.model_id, held_out) if model else None,
        signs=signs,
        advice=advice(signs) if signs else "",
        runs=runs,
        run=next((run for run in runs if run.run_id == run_id), None),
        by_strategy=_by_strategy(strategies),
        per_label=_per_label(metrics),
        drift=watched.line() if watched else "",
        drift_fires=watched is not None and watched.fires,
        drift_is_news=watched is not None and watched.fires and not _is_reported(watched, newest_runs, run_id),
        people=people(store),
        answers=answers_by_day(store, N_DAYS),
        lake_bytes=store.size(),
        outlook=outlook_of(project, model.n_training, metrics, counts) if model else None,
        change=_change(project, [point.model_id for point in curve], held_out) if len(curve) > 1 else None,
    )


def _is_reported(watched: Watched, runs: Sequence[RunRecord], run_id: str | None) -> bool:
    """Whether an earlier run wrote a report after the last import."""
    return any("write_report" in run.stages and run.started_at > watched.until for run in runs if run.run_id != run_id)


def _change(project: Project, model_ids: Sequence[str], held_out: dict[str, HeldOut]) -> ModelChange | None:
    from tasks.promote import model_change  # torch takes seconds to import

    return model_change(project, model_ids, held_out)


def write_page(report: Report, *paths: Path) -> None:
    """Write a report as an HTML file to each path, completely or not at all."""
    page = report_page(report).encode()
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)


def _state(counts: Mapping[Split, Mapping[str, int]], open_: Sequence[Progress], model_id: str | None) -> str:
    totals = {split: sum(by_label.values()) for split, by_label in counts.items()}
    labels = ", ".join(f"{n:,} for {split.value}" for split, n in totals.items() if n) or "none"
    waits = "; ".join(
        f"{progress.batch.batch_id} is open: {progress.n_answered:,} of {progress.batch.n:,} answered"
        for progress in open_
    )
    model = f"Model {model_id} is in production" if model_id else "There is no model yet"
    return f"Labels: {labels}. {model}; {waits or 'no batch is open'}."


def _next(store: Store, open_: Sequence[Progress]) -> str:
    if open_:
        return f"pal annotate {open_[0].batch.batch_id}"
    return "pal next" if count_pool(store) else "pal import FILE"


def _overall(metrics: Mapping[str, Metric]) -> list[Metric]:
    """The metrics that are not about a single label."""
    rest = [name for name in metrics if name not in TITLES and not name.endswith("]")]
    return [metrics[name] for name in (*TITLES, *rest) if name in metrics]


def _per_label(metrics: Mapping[str, Metric]) -> dict[str, dict[str, Metric]]:
    """Label -> name of a metric -> the metric, from names such as `f1[label]`."""
    by_label: dict[str, dict[str, Metric]] = {}
    for name, metric in metrics.items():
        of, _, label = name.removesuffix("]").partition("[")
        if label:
            by_label.setdefault(label, {})[of] = metric
    return by_label


def _by_strategy(results: Sequence[StrategyResult]) -> list[tuple[str, Point]]:
    """The fraction of positives of each strategy over all batches, highest first."""
    totals: dict[str, tuple[int, int]] = {}
    for result in results:
        positive, labelled = totals.get(result.strategy, (0, 0))
        totals[result.strategy] = positive + result.n_positive, labelled + result.n_labelled
    rows = [
        (name, Point(positive / labelled, 0.0, *wilson_interval(positive, labelled), note=f"{positive} of {labelled}"))
        for name, (positive, labelled) in totals.items()
    ]
    return sorted(rows, key=lambda row: -row[1].x)


def _on_evaluation(project: Project, model_id: str, predicted: dict[str, HeldOut]) -> OnEvaluation | None:
    from tasks.evaluate import held_out_of, slices_of  # torch takes seconds to import

    try:
        model = open_model(project, model_id)
    except ModelError:
        return None  # trained for other labels, or damaged; `pal status` and the next run report it
    held_out = held_out_of(project, model, predicted)
    if not held_out.items.num_rows:
        return None
    slices = slices_of(project.store, project.config.report.slices, model, held_out)
    return replace(_measured(model, held_out), slices=tuple(slices))


def _measured(model: LoadedModel, held_out: HeldOut) -> OnEvaluation:
    texts, ids = held_out.items["text"].to_pylist(), held_out.items["item_id"].to_pylist()
    labels, probabilities = held_out.labels, held_out.probabilities
    decided = model.calibration.decisions(probabilities)
    subject = model.calibration.positive
    if subject is None:  # no rare label: of the predicted label
        scores = probabilities[np.arange(len(texts)), decided].astype(np.float64)
        truth, curve, chosen, name = labels == decided, [], None, "right"
    else:
        scores, truth, name = probabilities[:, subject].astype(np.float64), labels == subject, model.labels[subject]
        curve, chosen = precision_recall(scores, truth), _chosen(truth, decided == subject)
    mistakes = worst_mistakes(probabilities, labels, decided, N_MISTAKES)
    return OnEvaluation(
        len(texts),
        name,
        model.labels,
        model.calibration.threshold,
        curve,
        chosen,
        [
            Point(bin_.probability, bin_.share, bin_.low, bin_.high, note=f"{bin_.n:,}")
            for bin_ in calibration_bins(scores, truth)
        ],
        confusion(labels, decided, len(model.labels)).tolist(),
        [
            Mistake(
                ids[at],
                texts[at],
                model.labels[labels[at]],
                model.labels[decided[at]],
                float(probabilities[at, decided[at]]),
            )
            for at in mistakes.tolist()
        ],
    )


def _chosen(truth: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """Recall and precision of the decisions; None if one of them is undefined."""
    hits = float((truth & chosen).sum())
    return (hits / float(truth.sum()), hits / float(chosen.sum())) if truth.any() and chosen.any() else None


LEAST_TEXTS, MOST_TEXTS = 200, 1000
"""Minimum number of new texts and of older texts, and the maximum size of a sample of each."""
EARLIER = 20
"""Imports before the newest that it has to differ more than: 1 of 21 quiet imports is a false alarm."""
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
        earlier: AUC of each of the last imports before the newest, compared in the same way. If the imports are
            exchangeable, the newest exceeds n of them with probability 1 / (n + 1).
    """

    since: datetime
    until: datetime
    drift: Drift
    positive: tuple[tuple[float, float, float], ...] = ()
    words: tuple[NewWord, ...] = ()
    earlier: tuple[float, ...] = ()

    @property
    def fires(self) -> bool:
        """Whether this is drift: different from the older texts, and more so than each earlier import."""
        return self.drift.fires(RATE, LEAST_AUC) and self.drift.auc > max(self.earlier, default=0.0)

    def line(self) -> str:
        """The result in a sentence."""
        drift = self.drift
        text = f"Texts imported since {self.since:%Y-%m-%d %H:%M} UTC against older ones: AUC {drift.auc:.3f} "
        text += f"[{drift.low:.3f}, {drift.high:.3f}], p = {drift.p:.3f}"
        if self.earlier:
            text += f"; highest AUC of imports before (n = {len(self.earlier)}): {max(self.earlier):.3f}"
        if self.positive:
            shares = [f"{share:.1%} [{low:.1%}, {high:.1%}]" for share, low, high in self.positive]
            text += f"; predicted positive: {shares[0]} of the older, {shares[1]} of the new"
        if self.words:
            named = [f"{word.word} ({word.old:.1%}, {word.new:.1%})" for word in self.words[:MOST_WORDS]]
            rest = f" and {n:,} more" if (n := len(self.words) - len(named)) else ""
            text += f"; new words (older, new): {', '.join(named)}{rest}"
        return f"Drift: {text}." if self.fires else f"{text}: no drift."


def watch_drift(project: Project) -> Watched | None:
    """Compare the newest imports with the older texts; None if either has fewer than `LEAST_TEXTS` texts."""
    recent = recent_texts(project.store, LEAST_TEXTS, MOST_TEXTS)
    if recent is None:
        return None
    earlier = earlier_texts(project.store, recent.since, len(recent.new), EARLIER)
    encoder = project.encoders.shipped()
    old, new, *before = (
        directions(encoder.vectors(), encoder.tokenize(pa.array(texts, pa.string())))
        for texts in (recent.old, recent.new, *(each.texts for each in earlier))
    )
    generator = np.random.default_rng(project.config.model.seed)
    compared, areas = drift(old, new, generator), []
    for span, features in zip(earlier, before, strict=True):
        others = old[[not span.since <= at <= span.until for at in recent.old_times]]
        if len(others) >= LEAST_TEXTS:
            areas.append(drift(others, features, generator, n_permutations=0).auc)
    words = tuple(new_words(recent.old, recent.new, RATE))
    watched = Watched(recent.since, recent.until, compared, _positive(project, recent), words, tuple(areas))
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
