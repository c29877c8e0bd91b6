"""The records that cross rooms: small, frozen, plain values; and the mapper from rows of a query to records."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, TypeVar


class Split(StrEnum):
    """What an item is for: what the batch through which it was first answered asked it for. It never changes."""

    TRAINING = "training"
    VALIDATION = "validation"
    EVALUATION = "evaluation"


class Purpose(StrEnum):
    """What a batch is for: items for a split; or answered items again, to settle them or to check their labels."""

    TRAINING = "training"
    VALIDATION = "validation"
    EVALUATION = "evaluation"
    ADJUDICATION = "adjudication"
    REVIEW = "review"

    @property
    def asks_again(self) -> bool:
        """Whether its items have answers already, and keep their split."""
        return self in (Purpose.ADJUDICATION, Purpose.REVIEW)


class BatchStatus(StrEnum):
    """Where a batch stands: out with annotators, wholly answered, or closed with its rest given back to the pool."""

    PUBLISHED = "published"
    INGESTED = "ingested"
    CLOSED = "closed"


class ModelStatus(StrEnum):
    """Where a model stands; exactly one is in production once there is any."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"
    RETIRED = "retired"


class DecidedBy(StrEnum):
    """Who decided on a candidate: the promotion gate, a person, or a person who took a promotion back."""

    GATE = "gate"
    PERSON = "person"
    ROLLBACK = "rollback"


class RunStatus(StrEnum):
    """Where a run of a flow stands; one whose process is gone without a word is crashed."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CRASHED = "crashed"


SUCCESSIVE = "successive"
"""In place of a split: figures of a model against the one before it, on a fixed sample of all items."""

UNNAMED = "unnamed"
"""The annotator of an answer that names none."""

ORIGINAL = "original"
"""The annotator of labels that came with the original scripts' files."""

IMPORTED = "imported"
"""The annotator of labels that stood in an imported file."""

NAMELESS = (UNNAMED, ORIGINAL, IMPORTED)
"""The annotators that are nobody in particular: any later answer replaces theirs."""


@dataclass(frozen=True)
class BatchItem:
    """One text as an annotator gets it.

    Attributes:
        context: What is shown beside the text: to an adjudicator the answers given so far; empty else.
        columns: Name and value of each column of `[batch] context` that the item has, shown beside the text, too.
    """

    item_id: str
    text: str
    text_hash: str
    context: str = ""
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """One person's answer to one item, as read from a file.

    Attributes:
        answer: A label name, `unsure` or `skip`.
        annotated_at: When it was given, in UTC; None where the file does not say.
        seconds: How long it took; None where the file does not say.
    """

    item_id: str
    answer: str
    annotator: str
    note: str = ""
    seconds: float | None = None
    annotated_at: datetime | None = None


@dataclass(frozen=True)
class Proposal:
    """That a sampling strategy proposed an item: its score (higher = ask first) and its rank there (from 1)."""

    item_id: str
    strategy: str
    score: float | None
    rank: int


@dataclass(frozen=True)
class Assignment:
    """That an annotator is asked about an item.

    Attributes:
        gold: The item has an adjudicated label and is asked to see how well the annotator does; it is none of the
            batch's own.
    """

    item_id: str
    annotator: str
    gold: bool = False


@dataclass(frozen=True)
class Share:
    """What became of a strategy's number in a batch.

    Attributes:
        strategy: The one in the mix.
        n: Its number of items.
        ran: The one that chose them: itself, or its substitute.
        missing: What it needed and there was not; None where it ran itself.
        options: What it ran with, defaults included.
    """

    strategy: str
    n: int
    ran: str
    missing: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightedShare:
    """Fraction of the texts that have a label, from items of the evaluation reserve weighted by slice of imports.

    Attributes:
        n_effective: So many items with equal weights would be as sure. Source: Kish (1965).
    """

    share: float
    n_effective: float


@dataclass(frozen=True)
class StopSign:
    """One sign that more labels would change little.

    Attributes:
        value: Its number; None where there is none yet. `low` and `high` bound it where it is an estimate.
        threshold: What it is held against, in words.
        holds: Whether it speaks for stopping; None where it is shown for information only.
        text: The number in words.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    threshold: str
    holds: bool | None
    text: str


@dataclass(frozen=True)
class Batch:
    """Items sent out together.

    Attributes:
        overlap: How many annotators each item needs an answer of.
        formats: Of its files; empty for a batch of before there was a choice.
        codebook: Version of the codebook that its items are annotated by.
        reserve_below: Items of ranks below this were left to the evaluation reserve; None where there was none.
    """

    batch_id: str
    purpose: Purpose
    status: BatchStatus
    n: int
    created_at: datetime
    model_id: str | None
    seed: int
    lake_version: int
    label_set: str
    mix: dict[str, int] = field(default_factory=dict)
    shares: tuple[Share, ...] = ()
    stop_signs: tuple[StopSign, ...] = ()
    overlap: int = 1
    formats: tuple[str, ...] = ()
    codebook: int = 1
    reserve_below: int | None = None


@dataclass(frozen=True)
class BatchResult:
    """What the answers of a batch brought; an item counts for the batch through which it was first answered.

    Attributes:
        active: Whether a model chose it.
        n: Items published.
        n_answered: Items answered in any way.
        n_labelled: Of them those that have a label by now.
        n_positive: Of them those that have the positive one.
        n_random: Of the labelled items those drawn at random from the pool as it was: of held-out batches all.
        n_random_positive: Of them those that have the positive label.
        n_reserve: Of the labelled items those of the evaluation reserve, a random sample of all texts.
        n_reserve_positive: Of them those that have the positive label.
    """

    batch_id: str
    purpose: Split
    status: BatchStatus
    active: bool
    n: int
    n_answered: int
    n_labelled: int
    n_positive: int
    n_random: int
    n_random_positive: int
    n_reserve: int = 0
    n_reserve_positive: int = 0


@dataclass(frozen=True)
class Metric:
    """One figure with its interval; `value` is None where it is undefined, and `reason` says why."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def __str__(self) -> str:
        name = {"f1": "F1", "auc": "AUC", "ap": "AP"}.get(self.name, self.name)
        if self.value is None:
            return f"{name} undefined ({self.reason})"
        return f"{name} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Model:
    """A trained model as the lake remembers it; its files lie in `models/<model_id>/`."""

    model_id: str
    created_at: datetime
    lake_version: int
    n_training: int
    encoder_id: str
    config: str
    weights_hash: str
    status: ModelStatus


@dataclass(frozen=True)
class Decision:
    """What was decided on a candidate, and why.

    Attributes:
        model_id: The candidate.
        previous_id: The model in production until then; None where there was none.
        promoted: Whether the candidate is in production from then on; else the previous one stayed.
    """

    model_id: str
    previous_id: str | None
    promoted: bool
    decided_by: DecidedBy
    reason: str
    decided_at: datetime


@dataclass(frozen=True)
class RunRecord:
    """One run of a flow; times in UTC.

    Attributes:
        host: The machine it ran on, and `pid` its process there.
        stage: The stage it is in, or was in when it ended early; None before the first and after the last.
        stages: Seconds of each stage that ended, in order.
        state: Hash of the lake version and the settings at its end (`run_state`); None until then.
        message: Its result, or what went wrong.
        name: What people call it, such as "next b0004-training".
        server_run: The id of its Prefect flow run; None where it ran without a server.
    """

    run_id: str
    flow: str
    status: RunStatus
    host: str
    pid: int
    started_at: datetime
    ended_at: datetime | None = None
    stage: str | None = None
    stages: dict[str, float] = field(default_factory=dict)
    state: str | None = None
    model_id: str | None = None
    batch_id: str | None = None
    message: str = ""
    name: str = ""
    server_run: str | None = None


Record = TypeVar("Record")


def to_records(record: type[Record], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Record]:
    """Convert each row to a record.

    Strings are converted to the declared enumeration or time, and JSON texts to the declared dict or tuple. A field
    that is itself a dataclass takes its fields from the same row. If a field cannot be None, NULL or a missing column
    gives its default. Columns without a field are ignored.

    Args:
        record: A dataclass.
        columns: Names of the columns, in the order of each row.

    Raises:
        TypeError: A field without a default has no column.

    >>> from storage.records import Proposal
    >>> to_records(Proposal, ["rank", "item_id", "strategy", "score"], [(1, "i7", "entropy", 0.5)])
    [Proposal(item_id='i7', strategy='entropy', score=0.5, rank=1)]
    """
    make = _maker(record)
    return [make(dict(zip(columns, row, strict=True))) for row in rows]


def _maker(record: type[Any]) -> Callable[[Mapping[str, Any]], Any]:
    hints = typing.get_type_hints(record)
    nested = {name: _maker(hint) for name, hint in hints.items() if _is_record(hint)}
    plain = {field.name: _converter(hints[field.name]) for field in dataclasses.fields(record)}
    optional = {name for name, hint in hints.items() if type(None) in typing.get_args(hint)}

    def make(row: Mapping[str, Any]) -> Any:
        values = {
            name: None if row[name] is None else convert(row[name])
            for name, convert in plain.items()
            if name in row and name not in nested and (row[name] is not None or name in optional)
        }
        return record(**values, **{name: make_nested(row) for name, make_nested in nested.items()})

    return make


def _converter(hint: Any) -> Callable[[Any], Any]:
    """A function that converts a column's value to the declared type of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _converter(next(argument for argument in arguments if argument is not type(None)))
    if isinstance(hint, type) and (issubclass(hint, Enum) or hint is bool):
        return hint
    if hint is datetime:
        return lambda time: datetime.fromisoformat(time) if isinstance(time, str) else time
    if origin is dict:
        return json.loads
    if origin is tuple:
        element = arguments[0]
        make_element = (lambda values: element(**values)) if _is_record(element) else element
        return lambda text: tuple(map(make_element, json.loads(text)))
    return lambda value: value


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)
