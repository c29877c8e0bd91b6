"""The state of a workspace: items, open batches, the model with its metrics, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from annotation.checks import FilledFile
from annotation.inbox import passed_over, waiting_answers, waiting_files
from flows.log_lines import counted
from storage.lake.annotations import answered_items, recent_seconds
from storage.lake.batches import Progress, answerers_in, open_batches, proposals_of
from storage.lake.history import count_disputed
from storage.lake.items import count_items_and_pool, count_pending
from storage.lake.models import metrics_of, production_model
from storage.records import Batch, Metric, RunStatus, Split, StopSign
from tasks.learning.stopping import advice
from tasks.plan import Outlook, answers_before_model, has_untrained_labels, minimums_of, outlook_of, signs_of
from tasks.project import Project, lost_labels
from tasks.sentence_vectors import made_so_far

SHOWN_METRICS = ("f1", "auc", "ap", "accuracy")
MOST_BATCHES = 10
"""Maximum number of open batches in the text."""


@dataclass(frozen=True)
class OpenBatch:
    """An open batch.

    Attributes:
        overlap: Answers that each item needs.
        n_ingested: Number of answers in the lake, of `n * overlap`.
        n_waiting: Number of answers that are only in files of the batch.
        folder: The folder of its files.
    """

    batch_id: str
    purpose: str
    n: int
    overlap: int
    n_ingested: int
    n_waiting: int
    folder: str


@dataclass(frozen=True)
class ModelStatus:
    """The production model and its metrics on the evaluation items.

    Attributes:
        absent_labels: Number of labels without evaluation items, which means over labels leave out.
    """

    id: str
    n_training: int
    f1: float | None
    auc: float | None
    ap: float | None
    figures: dict[str, Metric] = field(default_factory=dict)
    absent_labels: int = 0


@dataclass(frozen=True)
class Status:
    """A summary of a workspace.

    Attributes:
        files: The URI of the files shared with other machines; empty if none are shared.
        sentence_vectors: Number of items that have a sentence vector; None if models do not read them.
        next: The next command.
        n_left: Number of answers that the batch in `next` still needs.
        seconds_left: How long these take at the pace of the newest answers, or how long the last `pal next` took; None
            if unknown.
        then: What follows `next`, in words.
        outlook: The expected result of a batch; `seconds_to_outlook` is the time for its answers at that pace.
    """

    workspace: str
    files: str
    task: str
    items: int
    pool: int
    pending: int
    labels: dict[str, int]
    per_label: dict[str, dict[str, int]]
    unlabelled: int
    disputed: int
    batches: list[OpenBatch]
    inbox: int
    model: ModelStatus | None
    advice: str | None
    stop_signs: list[StopSign]
    next: str
    n_left: int = 0
    seconds_left: float | None = None
    then: str = ""
    outlook: Outlook | None = None
    seconds_to_outlook: float | None = None
    lost_labels: dict[str, int] = field(default_factory=dict)
    sentence_vectors: int | None = None
    passed_over: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """The values that `pal status --json` prints."""
        return asdict(self) | {"open_batches": [batch.batch_id for batch in self.batches]}

    def as_text(self) -> str:
        """The lines that `pal status` prints."""
        lines = [f"workspace   {self.workspace} ({self.task})"]
        if self.files:
            lines.append(f"files       shared in {self.files}")
        lines.append(f"items       {self.items:,}: {self.pool:,} in the pool, {self.pending:,} with annotators")
        if self.sentence_vectors is not None and self.sentence_vectors < self.items:
            lines.append(f"{'':<12}{self.sentence_vectors:,} with sentence vectors; pal nightly makes the others")
        for k, (split, counts) in enumerate(self.per_label.items()):
            lines.append(f"{'labels' if not k else '':<12}{split:<11}{self.labels[split]:>7,}  ({folded(counts)})")
        if self.unlabelled:
            lines.append(f"{'':<12}{self.unlabelled:,} more answered without a label: skipped, unsure or disputed")
        if self.lost_labels:
            labels = ", ".join(f"{n:,} {name}" for name, n in self.lost_labels.items())
            lines.append(f"{'':<12}pal.toml does not have these labels: {labels}. Say what became of them: pal labels")
        if self.disputed:
            lines.append(f"{'':<12}{self.disputed:,} to settle: pal next --adjudicate")
        for batch in self.batches[:MOST_BATCHES]:
            counted_as = f" answers, {batch.overlap} to each of {batch.n} items" if batch.overlap > 1 else " answered"
            done = f"{batch.n_ingested + batch.n_waiting} of {batch.n * batch.overlap}{counted_as}"
            done += f", {batch.n_waiting} of them not ingested yet" if batch.n_waiting else ""
            lines.append(f"open        {batch.batch_id}: {done}\n{'':<12}{batch.folder}")
        if len(self.batches) > MOST_BATCHES:
            lines.append(f"{'':<12}{len(self.batches) - MOST_BATCHES} more open batches: pal status --json")
        if not self.batches:
            lines.append("open        no batch")
        if self.inbox:
            lines.append(f"inbox       {counted(self.inbox, 'file')} to ingest")
        lines += [f"{'':<12}{line}" for line in self.passed_over]
        lines.append(f"model       {self._model_text()}")
        if self.outlook:
            took = f", {about(self.seconds_to_outlook)}," if self.seconds_to_outlook is not None else ""
            answers = counted(self.outlook.n_answers, "more answer")
            lines.append(f"{'forecast':<12}{answers}{took} are expected to bring {self.outlook.expected}")
        for k, sign in enumerate(self.stop_signs):
            mark = {True: "yes", False: "no", None: ""}[sign.holds]
            lines.append(
                f"{'' if k else 'stop?':<12}{sign.name:<29}{sign.text}  ({sign.threshold}{mark and ': ' + mark})"
            )
        if self.advice:
            lines.append(f"advice      {self.advice}")
        lines.append(f"next        {self.next}")
        if self.n_left:
            pace = f", {about(self.seconds_left)} at your pace" if self.seconds_left is not None else ""
            lines.append(f"{'':<12}{self.n_left:,} left{pace}")
        elif self.seconds_left is not None:
            lines.append(f"{'':<12}{about(self.seconds_left)}, as the last time")
        return "\n".join([*lines, f"then        {self.then}"])

    def _model_text(self) -> str:
        if self.model is None:
            return "none yet"
        shown = [self.model.figures[name] for name in SHOWN_METRICS if name in self.model.figures]
        figures = " · ".join(map(str, shown)) if any(metric.value is not None for metric in shown) else ""
        if figures and self.model.absent_labels:
            figures += f"\n{'':<12}{counted(self.model.absent_labels, 'label')} without evaluation items not included"
        return f"{self.model.id}, trained on {self.model.n_training:,} labels\n{'':<12}{figures or 'not evaluated'}"


def about(seconds: float) -> str:
    """Round a duration for people.

    >>> about(8), about(100), about(290), about(5400)
    ('about 8 seconds', 'about 2 minutes', 'about 5 minutes', 'about 1.5 hours')
    """
    if seconds < 60:
        return f"about {counted(max(1, round(seconds)), 'second')}"
    if seconds < 3600:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {seconds / 3600:.1f} hours"


def folded(counts: Mapping[str, int], most: int = 10) -> str:
    """Format label counts; of many labels only the most frequent.

    >>> folded({"a": 1, "b": 1200, "c": 3}), folded({"a": 1, "b": 1200, "c": 3, "d": 2}, most=3)
    ('1 a, 1,200 b, 3 c', '1,200 b, 3 c, 2 other labels')
    """
    names = list(counts)
    if len(names) > most:
        names = sorted(names, key=lambda name: -counts[name])[: most - 1]
    parts = [f"{counts[name]:,} {name}" for name in names]
    if others := len(counts) - len(names):
        parts.append(counted(others, "other label"))
    return ", ".join(parts) or "none"


def status_of(project: Project) -> Status:
    """Read the status of a project; only local copies of shared files are changed."""
    project.workspace.pull()
    with project.store.reading():
        return _status(project)


def _status(project: Project) -> Status:
    store, workspace = project.store, project.workspace
    counts, unlabelled = answered_items(store)
    waiting = waiting_files(workspace)
    seconds = recent_seconds(store)
    batches = [_open_batch(project, progress, waiting, seconds) for progress in open_batches(store)]
    inbox = sum(file.in_inbox for file in waiting)
    n_items, n_pool = count_items_and_pool(store)
    model = _model(project, counts[Split.EVALUATION])
    signs = signs_of(store, project.label_set, (n_items, n_pool)) if model else ()
    step = _next_command(project, batches, inbox, more=bool(n_pool) or has_untrained_labels(project, counts))
    next_open = batches[0] if " annotate " in step else None
    n_left = next_open.n * next_open.overlap - next_open.n_ingested - next_open.n_waiting if next_open else 0
    outlook = outlook_of(project, model.n_training, model.figures, counts) if model else None
    n_before_model = 0 if model else answers_before_model(minimums_of(project), counts, n_items)
    return Status(
        workspace=str(workspace.root),
        files=workspace.files,
        task=project.label_set.name,
        items=n_items,
        pool=n_pool,
        pending=sum(count_pending(store).values()),
        labels={split.value: sum(counts[split].values()) for split in Split},
        per_label={split.value: counts[split] for split in Split},
        unlabelled=len(unlabelled),
        disputed=count_disputed(store, unlabelled),
        batches=batches,
        inbox=inbox,
        model=model,
        advice=advice(signs) if model else None,
        stop_signs=list(signs),
        next=step,
        n_left=n_left,
        seconds_left=_seconds_of(project, step, n_left, seconds),
        then=_then(step, n_pool, n_before_model, n_left + sum(batch.n_waiting for batch in batches)),
        outlook=outlook,
        seconds_to_outlook=outlook.n_answers * median(seconds) if outlook and seconds else None,
        sentence_vectors=sentences[0] if (sentences := made_so_far(project)) else None,
        lost_labels=lost_labels(project),
        passed_over=passed_over(workspace),
    )


def _seconds_of(project: Project, step: str, n_left: int, seconds: Sequence[float]) -> float | None:
    """Estimate the duration of the next step, from the newest answers or from the last run; None if unknown."""
    if n_left:
        return n_left * median(seconds) if seconds else None
    if step.endswith(" next"):
        for run in project.workspace.runs().recent(1, flow="next-batch", status=RunStatus.COMPLETED):
            return (run.ended_at - run.started_at).total_seconds() if run.ended_at else None
    return None


def _then(step: str, n_pool: int, n_before_model: int, n_coming: int) -> str:
    """Describe what follows the next step.

    Args:
        n_pool: Number of items in the pool.
        n_before_model: Number of answers missing for the first model; 0 if the next run trains one.
        n_coming: Number of answers expected from the open batches.
    """
    if " import " in step:
        return "pal next: the first items to annotate"
    trains = "a model is trained and chooses the next items"
    if not n_pool:
        trains = "a model is trained on all labels; the pool is empty"
    if n_before_model > n_coming:
        trains = f"random items; the first model comes after about {n_before_model - n_coming:,} more answers"
    if step.endswith(" next"):
        return f"pal annotate ({trains})" if n_pool else f"pal import FILE ({trains})"
    return f"pal next: {trains}" if step.endswith(" ingest") else f"pal ingest, and pal next: {trains}"


def _open_batch(project: Project, progress: Progress, files: Sequence[FilledFile], seconds: list[float]) -> OpenBatch:
    """The status of an open batch; durations of answers that are not ingested yet are added to `seconds`."""
    batch, workspace = progress.batch, project.workspace
    return OpenBatch(
        batch_id=batch.batch_id,
        purpose=batch.purpose.value,
        n=batch.n,
        overlap=batch.overlap,
        n_ingested=progress.n_answers,
        n_waiting=_n_waiting(project, batch, files, seconds),
        folder=str(workspace.batches / batch.batch_id),
    )


def _n_waiting(project: Project, batch: Batch, files: Sequence[FilledFile], seconds: list[float]) -> int:
    """Count the needed answers that are only in these files; their durations are added to `seconds`."""
    answers = waiting_answers(project.workspace, batch.batch_id, project.label_set, files)
    if not answers:
        return 0
    seconds += [answer.seconds for answer in answers if answer.seconds is not None]
    store = project.store
    answerers = answerers_in(store, batch.batch_id)
    own_ids = {proposal.item_id for proposal in proposals_of(store, batch.batch_id)}
    waiting: dict[str, set[str]] = {}
    for answer in answers:
        if answer.item_id in own_ids:
            waiting.setdefault(answer.item_id, set()).add(answer.annotator)
    return sum(
        max(0, min(batch.overlap - len(answerers.get(item_id, ())), len(names - answerers.get(item_id, set()))))
        for item_id, names in waiting.items()
    )


def _model(project: Project, evaluation: Mapping[str, int]) -> ModelStatus | None:
    store = project.store
    model = production_model(store)
    if model is None:
        return None
    figures = metrics_of(store, model.model_id, Split.EVALUATION)
    values = {name: figures[name].value if name in figures else None for name in ("f1", "auc", "ap")}
    names = project.label_set.names
    absent = 0 if project.label_set.positive else len({*names} - {*evaluation})
    return ModelStatus(model.model_id, model.n_training, **values, figures=figures, absent_labels=absent)


def pal_command(project: Project) -> str:
    """The `pal` command with the option that it needs to find this workspace from the current directory."""
    here = project.workspace.root
    return "pal" if here in (Path.cwd(), *Path.cwd().parents) else f"pal --workspace {shlex.quote(str(here))}"


def _next_command(project: Project, batches: list[OpenBatch], inbox: int, *, more: bool) -> str:
    pal = pal_command(project)
    if inbox or any(
        batch.n_waiting and batch.n_waiting + batch.n_ingested >= batch.n * batch.overlap for batch in batches
    ):
        return f"{pal} ingest"
    if batches:
        return f"{pal} annotate {batches[0].batch_id}"
    return f"{pal} next" if more else f"{pal} import FILE"
