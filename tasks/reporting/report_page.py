"""The contents of a report as values, as Markdown, and as one HTML page without scripts or network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from storage.lake.annotators import Person
from storage.lake.models import CurvePoint, StrategyResult
from storage.records import BatchResult, Metric, RunRecord, StopSign
from tasks.reporting.charts import Axis, Point, as_image, bar_chart, dot_chart, interval_chart, line_chart

if TYPE_CHECKING:
    from tasks.plan import Outlook
    from tasks.promote import ModelChange

TITLES = {
    "f1": "F1",
    "auc": "AUC",
    "ap": "AP",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "ece": "calibration error",
}
"""The metrics that are shown first, in this order."""
CURVES = ("ap", "f1", "auc")
"""The metrics with a learning curve; the first is drawn large."""


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: the label, the model's prediction, and its probability."""

    item_id: str
    text: str
    label: str
    decided: str
    probability: float


@dataclass(frozen=True)
class Slice:
    """The evaluation items with one value of a column, with the model's metrics on them."""

    column: str
    value: str
    n: int
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class OnEvaluation:
    """The production model on the evaluation items.

    Attributes:
        subject: The label of the curve and the bins.
        curve: (recall, precision) with increasing recall; `chosen` is the point of the model's threshold.
        bins: Predicted probability against observed frequency, with the number of items as note.
        confusion: Number of items by label (row) and prediction (column).
        mistakes: Wrong predictions, highest probability first.
        slices: Metrics of the slices of imports, if there are several, and of those in `[report] slices`.
    """

    n: int
    subject: str
    labels: tuple[str, ...]
    threshold: float
    curve: list[tuple[float, float]]
    chosen: tuple[float, float] | None
    bins: list[Point]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    slices: tuple[Slice, ...] = ()

    @property
    def absent_labels(self) -> int:
        """Number of labels without evaluation items, which means over labels leave out."""
        return sum(not any(row) for row in self.confusion)


@dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes:
        state: The present state in a sentence; `next` is the next command.
        decision: Why the production model is in production.
        figures: Metrics of the production model on the evaluation items; `per_label` those of single labels.
        models: All evaluated models, oldest first.
        signs: Stopping criteria, with `advice` in a sentence.
        run: The run that wrote the report; None if it was requested.
        runs: The newest runs, newest first.
        drift: A comparison of the newest texts with older ones, in a sentence; empty if there are too few.
        answers: Number of answers on each of the last days that have any.
        lake_bytes: Size of the newest version of the lake.
        drift_fires: Whether drift was detected; `drift_is_news` whether no report said so since the last import.
        outlook: The expected result of the next batch.
        change: A comparison of the two newest models; None if there are not two.
    """

    task: str
    workspace: str
    made_at: datetime
    lake_version: int
    code_version: str
    state: str
    next: str
    positive: str | None
    model_id: str | None
    decision: str
    figures: list[Metric]
    models: list[CurvePoint]
    batches: list[BatchResult]
    strategies: list[StrategyResult]
    evaluation: OnEvaluation | None
    signs: tuple[StopSign, ...]
    advice: str
    runs: list[RunRecord]
    run: RunRecord | None = None
    by_strategy: list[tuple[str, Point]] = field(default_factory=list)
    per_label: dict[str, dict[str, Metric]] = field(default_factory=dict)
    drift: str = ""
    drift_fires: bool = False
    drift_is_news: bool = False
    people: list[Person] = field(default_factory=list)
    answers: list[tuple[date, int]] = field(default_factory=list)
    lake_bytes: int = 0
    change: ModelChange | None = None
    outlook: Outlook | None = None


def learning_charts(report: Report) -> dict[str, str]:
    """A chart of each metric against the number of labels; empty without evaluated models."""
    charts = {}
    for name in CURVES if report.models else ():
        points = [
            Point(
                point.n_training,
                metric.value,
                metric.low,
                metric.high,
                marked=point.model_id == report.model_id,
                note=f"{metric.value:.3f}" if point.model_id == report.model_id else "",
            )
            for point in report.models
            if (metric := point.figures.get(name)) is not None and metric.value is not None
        ]
        points.sort(key=lambda point: point.x)
        if points:
            ahead = _ahead(report, points) if name == "ap" else None
            most = max(point.x for point in [*points, *(ahead or ())])
            title = f"{TITLES[name]} by number of training labels"
            charts[name] = line_chart(title, Axis("labels", 0, most), Axis(TITLES[name], 0, 1), points, ahead=ahead)
    return charts


def _ahead(report: Report, points: Sequence[Point]) -> tuple[Point, Point] | None:
    """The production model, and the forecast after the next batch; None without a forecast."""
    start = next((point for point in points if point.marked), None)
    if start is None or report.outlook is None or (expected := report.outlook.expected).value is None:
        return None
    return start, Point(start.x + report.outlook.n_training, expected.value, expected.low, expected.high)


def answers_chart(report: Report) -> str:
    """Number of answers per day, of the last days with answers; empty if there are none."""
    bars = [(f"{day:%m-%d}", float(n), float(n)) for day, n in report.answers]
    return bar_chart("Answers a day", Axis("answers", 0, max(n for _, n, _ in bars)), bars) if bars else ""


def batch_chart(report: Report) -> str:
    """Positives in each actively sampled training batch; empty if there is none."""
    bars = [
        (batch.batch_id.split("-")[0], float(batch.n_positive), float(batch.n_labelled))
        for batch in report.batches
        if batch.active and batch.n_labelled
    ]
    if not bars or report.positive is None:
        return ""
    axis = Axis("labeled items", 0, max(total for _, _, total in bars))
    return bar_chart(f"Labeled items that are {report.positive}, by batch", axis, bars)


def strategy_chart(report: Report) -> str:
    """The fraction of positives among each strategy's proposals; empty if there are none."""
    if not report.by_strategy:
        return ""
    high = max(point.high or point.x for _, point in report.by_strategy)
    title = f"Fraction of a strategy's proposals that are {report.positive}"
    return interval_chart(title, Axis(f"{report.positive}", 0, high, share=True), report.by_strategy)


def evaluation_charts(report: Report) -> dict[str, str]:
    """Precision against recall, and calibration; empty without an evaluation."""
    evaluation = report.evaluation
    if evaluation is None:
        return {}
    charts = {}
    if evaluation.curve:
        points = [Point(recall, precision) for recall, precision in evaluation.curve]
        if evaluation.chosen:
            note = f"threshold {evaluation.threshold:.2f}"
            points.append(Point(*evaluation.chosen, marked=True, note=note))
            points.sort(key=lambda point: (point.x, -point.y))
        title = f"Precision against recall of {evaluation.subject}"
        charts["precision_recall"] = line_chart(
            title, Axis("recall", 0, 1, share=True), Axis("precision", 0, 1, share=True), points
        )
    title = f"Observed frequency of {evaluation.subject} by predicted probability"
    axes = Axis("predicted probability", 0, 1, share=True), Axis(f"is {evaluation.subject}", 0, 1, share=True)
    charts["calibration"] = dot_chart(title, *axes, evaluation.bins)
    return charts


def stage_rows(report: Report) -> tuple[list[str], list[tuple[RunRecord, list[float | None], float]]]:
    """The stages of the newest runs, and for each run its seconds by stage and in total."""
    runs = [run for run in report.runs if run.stages]
    names = list(dict.fromkeys(name for run in runs for name in run.stages))
    return names, [(run, [run.stages.get(name) for name in names], sum(run.stages.values())) for run in runs]


def figure_text(metric: Metric) -> str:
    """A metric with its interval, or the reason why it is undefined."""
    if metric.value is None:
        return f"undefined: {metric.reason}"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def report_markdown(report: Report) -> str:
    """The report as Markdown with embedded charts, for the Prefect UI."""
    parts = [f"**{report.state}**", f"Next: `{report.next}`", *filter(None, [report.drift])]
    if report.change and report.change.verdict:
        parts.append(report.change.verdict)
    if report.model_id:
        n = report.evaluation.n if report.evaluation else 0
        rows = [(TITLES.get(metric.name, metric.name), figure_text(metric)) for metric in report.figures]
        parts += [f"## Model {report.model_id}", report.decision]
        parts.append(_table(("metric", f"on {n:,} evaluation items, 95% interval"), rows))
    for title, charts in (
        ("Learning curve", list(learning_charts(report).values())),
        ("Batches", [chart for chart in (batch_chart(report), strategy_chart(report)) if chart]),
        ("On the evaluation items", list(evaluation_charts(report).values())),
    ):
        if charts:
            parts += [f"## {title}", *(f"![{title}]({as_image(chart)})" for chart in charts)]
    if report.signs:
        marks = {True: "yes", False: "no", None: ""}
        rows = [(sign.name, f"{sign.text} ({sign.threshold}) {marks[sign.holds]}") for sign in report.signs]
        parts += ["## Stop?", report.advice, _table(("sign", "now"), rows)]
    if report.run and report.run.stages:
        parts += ["## Time", _table(("stage", "seconds"), [(k, f"{v:.1f}") for k, v in report.run.stages.items()])]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


_TEMPLATE = Path(__file__).with_name("report_page.html")


def report_page(report: Report) -> str:
    """Render the page; all texts are escaped."""
    stages, runs = stage_rows(report)
    return _template().render(
        report=report,
        titles=TITLES,
        curves=CURVES,
        figure_text=figure_text,
        learning={name: Markup(chart) for name, chart in learning_charts(report).items()},
        batches=Markup(batch_chart(report)),
        strategies=Markup(strategy_chart(report)),
        answers=Markup(answers_chart(report)),
        charts={name: Markup(chart) for name, chart in evaluation_charts(report).items()},
        stages=stages,
        runs=runs,
        most_s=max((total for _, _, total in runs), default=0.0),
    )


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
