"""A report's contents as plain values, as Markdown, and as one HTML page without scripts or network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from storage.lake.models import CurvePoint, StrategyResult
from storage.lake.people import Person
from storage.records import BatchResult, Metric, RunRecord, StopSign
from tasks.reporting.charts import Axis, Point, as_image, bar_chart, dot_chart, interval_chart, line_chart

if TYPE_CHECKING:
    from tasks.model_verdict import ModelChange
    from tasks.plan import Outlook

TITLES = {
    "f1": "F1",
    "auc": "AUC",
    "ap": "AP",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "ece": "calibration error",
}
"""The figures that are shown first, in this order."""
CURVES = ("ap", "f1", "auc")
"""Of the learning curves, the large one first."""


@dataclass(frozen=True)
class Mistake:
    """A wrong decision: what people said, what the model says, and how sure it is, 0 to 1."""

    item_id: str
    text: str
    label: str
    decided: str
    probability: float


@dataclass(frozen=True)
class Slice:
    """The evaluation items with a value of a column, how many they are, and the model's metrics on them."""

    column: str
    value: str
    n: int
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class OnEvaluation:
    """The production model on the evaluation items.

    Attributes:
        subject: The label that curve and bins are about.
        curve: (recall, precision), recall rising; `chosen` is where the model decides.
        bins: Probability against how often it is right, each with its number of items as its note.
        confusion: Items by the label they have (row) and the one decided (column).
        mistakes: The surest first.
        slices: Metrics of each part of the items that `[report] slices` asks for.
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
        """How many labels no evaluation item has; means over labels are without them."""
        return sum(not any(row) for row in self.confusion)


@dataclass(frozen=True)
class Report:
    """Everything that the report shows of a workspace at one time.

    Attributes:
        state: Where things stand, in a sentence; `next` is what to type.
        decision: Why the production model is in production.
        figures: Of the production model on the evaluation items; `per_label` those of single labels, by label.
        models: Every model that was measured, the oldest first.
        signs: Of stopping, with `advice` in a sentence.
        run: The one that the report is of; None where it was asked for.
        runs: The newest ones, the newest first.
        drift: The newest texts beside the older ones, in a sentence; empty where there are too few.
        drift_fires: Whether that is drift.
        answers: Answers on each of the last days that have any.
        lake_bytes: Of the lake's newest version, with its catalog.
        outlook: What the next batch is expected to bring.
        change: The two newest models against each other; None where there are no two.
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
    people: list[Person] = field(default_factory=list)
    answers: list[tuple[date, int]] = field(default_factory=list)
    lake_bytes: int = 0
    change: ModelChange | None = None
    outlook: Outlook | None = None


def learning_charts(report: Report) -> dict[str, str]:
    """A chart of each figure against the labels spent; empty where no model was measured."""
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
            title = f"{TITLES[name]} against the labels trained on"
            charts[name] = line_chart(title, Axis("labels", 0, most), Axis(TITLES[name], 0, 1), points, ahead=ahead)
    return charts


def _ahead(report: Report, points: Sequence[Point]) -> tuple[Point, Point] | None:
    """From the production model to what the next batch is expected to bring; None without a forecast."""
    start = next((point for point in points if point.marked), None)
    if start is None or report.outlook is None or (expected := report.outlook.expected).value is None:
        return None
    return start, Point(start.x + report.outlook.n_training, expected.value, expected.low, expected.high)


def answers_chart(report: Report) -> str:
    """Answers on each of the last days with answers; empty where nobody answered."""
    bars = [(f"{day:%m-%d}", float(n), float(n)) for day, n in report.answers]
    return bar_chart("Answers a day", Axis("answers", 0, max(n for _, n, _ in bars)), bars) if bars else ""


def batch_chart(report: Report) -> str:
    """Positives of each training batch that a model chose; empty where there is none."""
    bars = [
        (batch.batch_id.split("-")[0], float(batch.n_positive), float(batch.n_labelled))
        for batch in report.batches
        if batch.active and batch.n_labelled
    ]
    if not bars or report.positive is None:
        return ""
    axis = Axis("labelled items", 0, max(whole for _, _, whole in bars))
    return bar_chart(f"Items that are {report.positive}, of those labelled, by batch", axis, bars)


def strategy_chart(report: Report) -> str:
    """How often what a strategy proposed is positive; empty where nothing was chosen yet."""
    if not report.by_strategy:
        return ""
    high = max(point.high or point.x for _, point in report.by_strategy)
    title = f"Share of a strategy's proposals that is {report.positive}"
    return interval_chart(title, Axis(f"{report.positive}", 0, high, share=True), report.by_strategy)


def evaluation_charts(report: Report) -> dict[str, str]:
    """Precision against recall, and calibration; empty where nothing was measured."""
    found = report.evaluation
    if found is None:
        return {}
    charts = {}
    if found.curve:
        points = [Point(recall, precision) for recall, precision in found.curve]
        if found.chosen:
            note = f"from {found.threshold:.2f} on"
            points.append(Point(*found.chosen, marked=True, note=note))
            points.sort(key=lambda point: (point.x, -point.y))
        title = f"Precision against recall of {found.subject}"
        charts["precision_recall"] = line_chart(
            title, Axis("recall", 0, 1, share=True), Axis("precision", 0, 1, share=True), points
        )
    title = f"How often it is {found.subject} against the probability given"
    axes = Axis("probability given", 0, 1, share=True), Axis(f"is {found.subject}", 0, 1, share=True)
    charts["calibration"] = dot_chart(title, *axes, found.bins)
    return charts


def stage_rows(report: Report) -> tuple[list[str], list[tuple[RunRecord, list[float | None], float]]]:
    """The stages of the newest runs, and for each run its seconds by stage and in all."""
    runs = [run for run in report.runs if run.stages]
    names = list(dict.fromkeys(name for run in runs for name in run.stages))
    return names, [(run, [run.stages.get(name) for name in names], sum(run.stages.values())) for run in runs]


def figure_text(metric: Metric) -> str:
    """A figure with its interval, or why there is none."""
    if metric.value is None:
        return f"undefined: {metric.reason}"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def report_markdown(report: Report) -> str:
    """The report as Markdown, charts as images in it: what the Prefect UI shows."""
    parts = [f"**{report.state}**", f"Next: `{report.next}`", *filter(None, [report.drift])]
    if report.change and report.change.verdict:
        parts.append(report.change.verdict)
    if report.model_id:
        n = report.evaluation.n if report.evaluation else 0
        rows = [(TITLES.get(metric.name, metric.name), figure_text(metric)) for metric in report.figures]
        parts += [f"## Model {report.model_id}", report.decision]
        parts.append(_table(("figure", f"on {n:,} evaluation items, 95 % interval"), rows))
    for title, charts in (
        ("Learning curve", list(learning_charts(report).values())),
        ("What the batches brought", [chart for chart in (batch_chart(report), strategy_chart(report)) if chart]),
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
    """The page; texts of items stand in it as text, whatever they contain."""
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
