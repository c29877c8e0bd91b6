"""Every setting of pal.toml with its default, its limits and its description.

The sections are pydantic models. Reading (`load.py`), writing (`template.py`) and docs/pal-toml.md come from them.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from annotation.formats.registry import FORMATS, find_formats
from annotation.label_set import Label, LabelSet, with_keys
from storage.files.object_store import root_faults
from storage.readers.spellings import folded
from storage.records import NAMELESS
from storage.workspace import Workspace
from tasks.config.values import Option, as_toml, mix_faults, option_faults, suggest, weights

if TYPE_CHECKING:
    from tasks.learning.training import TrainingConfig

LARGEST = 1_000_000_000_000
"""The largest number in pal.toml; larger ones do not fit into the lake's columns or a process's memory."""

Event = Literal["batch", "promotion", "failure", "drift"]
EVENTS: tuple[Event, ...] = get_args(Event)

_FROM_LISTS = Field(strict=False)
"""TOML has lists where the settings have tuples."""


def _rare(default: Any, description: str, **limits: Any) -> Any:
    """A setting that few change: `pal init` writes it as a comment."""
    return Field(default, description=description, json_schema_extra={"rare": True}, **limits)


def _private(default: str, description: str) -> Any:
    """A setting that may hold a secret by mistake: no error repeats it."""
    return Field(default, description=description, json_schema_extra={"writeOnly": True})


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ValueError(*faults)


def _without(faults: Callable[[Any], Sequence[str]]) -> AfterValidator:
    """The annotation of a setting in which a function finds no faults."""

    def check(value: Any) -> Any:
        _refuse(faults(value))
        return value

    return AfterValidator(check)


def _empty_words(words: Sequence[str]) -> list[str]:
    """What is wrong with a list of words."""
    return [f"{as_toml(word)} is empty." for word in words if not word.strip()]


def _format_faults(formats: Sequence[str]) -> list[str]:
    unknown = [f'there is no format "{name}"{suggest(name, FORMATS)}' for name in formats if name not in FORMATS]
    return unknown if formats else [f"there is none{suggest('', FORMATS)}"]


def _annotator_faults(names: Sequence[str]) -> list[str]:
    faults = []
    for name in names:
        if not name.strip() or name != name.strip() or not name.isprintable():
            faults.append(f"{as_toml(name)} is empty, or has spaces around it or characters that cannot be shown.")
        if folded(name) in NAMELESS:
            faults.append(f'"{name}" is reserved for answers without a name.')
    return [*faults, "a name is given twice."] if len(set(map(folded, names))) < len(names) else faults


class Section(BaseModel):
    """A section of pal.toml. A validator raises ValueError with one argument for each error that it finds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @field_validator("*")
    @classmethod
    def _refuse_huge_numbers(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not abs(value) <= LARGEST:  # NaN is not either
            raise ValueError(f"write a number from -{LARGEST:,} to {LARGEST:,}.")
        return value


class LabelConfig(Section):
    """One of `[task] labels`."""

    name: str = Field(description="Name, as it is stored and shown.")
    key: str = Field(
        "", description="One character that chooses it in the terminal and on the page; pal chooses one if missing."
    )
    positive: bool = Field(False, description="Whether it is the rare label that the metrics are about.")
    default: bool = Field(False, description="Whether Enter chooses it.")
    description: str = Field("", description="What it means, in a sentence that annotators see.")


OLD_PLACEHOLDER = "Say here what each label means, with examples of the hard cases."
"""What `pal init` wrote as the definition up to version 0.1; annotators are not shown it."""


class TaskConfig(Section):
    """`[task]`."""

    name: str = Field(description="Name of the task.")
    question: str = Field(description="Question that annotators answer about each text.")
    definition: str = Field(
        "", description="What each label means, with examples of hard cases; annotators can open it. May be left empty."
    )
    labels: Annotated[tuple[LabelConfig, ...], _FROM_LISTS] = Field(
        description="Labels: name; if wanted key, description, positive = true (the rare one), default = true (Enter).",
        examples=[[{"name": "spam"}, {"name": "ham"}]],
    )

    @field_validator("definition")
    @classmethod
    def _leave_out_placeholder(cls, definition: str) -> str:
        return "" if definition.strip() == OLD_PLACEHOLDER else definition

    @field_validator("labels")
    @classmethod
    def _give_keys(cls, labels: tuple[LabelConfig, ...]) -> tuple[LabelConfig, ...]:
        return tuple(LabelConfig(**asdict(label)) for label in with_keys([Label(**dict(label)) for label in labels]))

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        _refuse(self.label_set.faults())
        return self

    @property
    def label_set(self) -> LabelSet:
        """The question and its labels, as annotation knows them."""
        return LabelSet(self.name, self.question, self.definition, tuple(Label(**dict(label)) for label in self.labels))

    @classmethod
    def of(cls, label_set: LabelSet) -> Self:
        """The section for a label set."""
        labels = tuple(LabelConfig(**asdict(label)) for label in label_set.labels)
        return cls(name=label_set.name, question=label_set.question, definition=label_set.definition, labels=labels)


class MinimumsConfig(Section):
    """`[minimums]`."""

    evaluation: int = Field(
        1200, ge=0, description="Evaluation items wanted: a random sample, never trained on; 300 are enough to start."
    )
    evaluation_share: float = Field(
        0.25,
        ge=0,
        le=0.9,
        description="Their share of each batch until there are enough; 0 to ask for them first.",
    )
    validation: int = Field(
        0, ge=0, description="Validation items, for calibration; 0 to cross-validate on the training items."
    )
    training: int = Field(
        100,
        ge=2,
        description="Random answers before the first model; half of them evaluate it, if there is a share.",
    )


class EvaluationConfig(Section):
    """`[evaluation]`."""

    refresh: int = _rare(
        50,
        "Random items of each later slice (imports between two batches) that join the evaluation items; 0 for none.",
        ge=0,
    )


class BatchConfig(Section):
    """`[batch]`."""

    size: int = Field(100, ge=1, description="Items in a batch that a model chose.")
    formats: Annotated[tuple[str, ...], _FROM_LISTS, _without(_format_faults)] = Field(
        ("csv", "xlsx", "html"), description=f"File formats: {', '.join(FORMATS)}.", examples=[["csv", "html"]]
    )
    annotators: Annotated[tuple[str, ...], _FROM_LISTS, _without(_annotator_faults)] = Field(
        (),
        description="Annotators, each with files of their own; if empty, anyone can answer a batch.",
        examples=[["anna", "ben"]],
    )
    overlap: int = Field(1, ge=1, description="How many annotators get each item.")
    context: Annotated[tuple[str, ...], _FROM_LISTS] = Field(
        (), description="Imported columns that annotators see beside the text.", examples=[["url", "date"]]
    )
    highlight: Annotated[tuple[str, ...], _FROM_LISTS, _without(_empty_words)] = Field(
        (), description="Words that are marked in texts on the page and in the terminal.", examples=[["flood", "fire"]]
    )
    gold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Fraction of extra items with a known label in each annotator's files, such as 0.05.",
    )

    @model_validator(mode="after")
    def _check_annotators_suffice(self) -> Self:
        faults = []
        if self.overlap > max(1, len(self.annotators)):
            faults.append(f"overlap = {self.overlap}: there are {len(self.annotators)} annotators.")
        if self.gold and not self.annotators:
            faults.append(f"gold = {self.gold}: name the annotators whose files get these items.")
        _refuse(faults)
        return self

    def with_formats(self, names: Sequence[str]) -> BatchConfig:
        """The same with other formats.

        Raises:
            BatchError: There is no such format.
        """
        return self.model_copy(update={"formats": tuple(form.name for form in find_formats(names))})


def default_mix(n_labels: int) -> dict[str, int | str]:
    """The mix where pal.toml has none: between many labels least confidence queries what is hopeless."""
    return {"random": 10, "least_confidence" if n_labels <= 2 else "margin_confidence": 80, "outlier": 10}


class SamplingConfig(Section):
    """`[sampling]`."""

    mix: Annotated[dict[str, int | str], _without(mix_faults)] = Field(
        default_mix(2),
        description="Strategies of a batch, as numbers or percentages; above two labels by default margin_confidence.",
        examples=[{"random": "20%", "least_confidence": "80%"}],
    )
    start: Annotated[dict[str, int | str], _without(lambda start: mix_faults(start) if start else [])] = _rare(
        {},
        "Strategies of training batches before the first model; if empty, random, and keyword if there are keywords.",
        examples=[{"random": 50, "typical_cluster": 50}],
    )
    keywords: Annotated[tuple[str, ...], _FROM_LISTS, _without(_empty_words)] = Field(
        (), description="Words that hint at the rare label, for the strategy keyword.", examples=[["flood", "quake"]]
    )
    where: str = Field(
        "",
        description="Condition on imported columns, in SQL; other items are not asked about.",
        examples=["lang = 'en' AND date >= '2026-01-01'"],
    )
    options: Annotated[dict[str, dict[str, Option]], _without(option_faults)] = _rare(
        {}, "Options of strategies; their defaults are in docs/strategies.md.", examples=[{"anchor": {"size": 500}}]
    )

    @property
    def active(self) -> dict[str, float]:
        """Strategy -> weight in a batch with a model."""
        return weights(self.mix)

    @property
    def cold(self) -> dict[str, float]:
        """Strategy -> weight in a training batch without a model."""
        if self.start:
            return weights(self.start)
        return {"random": 50, "keyword": 50} if self.keywords else {"random": 100}


class ModelConfig(Section):
    """`[model]`."""

    encoder: Literal["minilm-static", "minilm-adapted", "bag-of-words"] = Field(
        "minilm-static",
        description='Encoder: "minilm-static", "minilm-adapted" (after pal adapt) or "bag-of-words" (the original\'s).',
    )
    sentence: Literal["auto", "off"] = Field(
        "auto",
        description='Sentence vectors: "auto" (with the extra `sentence`, once every text has one) or "off".',
    )
    balance: Literal["weights", "equal_draws", "none"] = Field(
        "weights", description='Against rare labels: "weights" in the loss, "equal_draws" per epoch, or "none".'
    )
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    hidden: int = _rare(0, "Width of a hidden layer; 0 for none (bag-of-words: for the original's 128).", ge=0)
    regularisation: float = _rare(0.0, "C of the linear head, as in logistic regression; 0 to choose it.", ge=0)
    epochs: int = _rare(60, "Most epochs of minibatch training.", ge=1)
    patience: int = _rare(3, "Epochs without a better loss on held-out items before training stops.", ge=1)
    minibatch: int = _rare(16, "Items per step of minibatch training.", ge=1)
    learning_rate: float = _rare(0.1, "Learning rate of minibatch training (SGD).", gt=0)

    @property
    def training(self) -> TrainingConfig:
        """How to train, without the encoder; imports torch."""
        from tasks.learning.training import TrainingConfig

        return TrainingConfig(**self.model_dump(exclude={"encoder", "sentence"}))

    @property
    def reads_sentences(self) -> bool:
        """Whether models may read sentence vectors: linear ones on the shipped encoder."""
        return self.sentence == "auto" and self.encoder == "minilm-static" and self.hidden == 0


class PromotionConfig(Section):
    """`[promotion]`."""

    metric: Literal["ap", "auc", "f1"] = Field(
        "ap", description='Metric that is compared: "ap" (average precision), "auc" or "f1".'
    )
    margin: float = Field(0.01, description="How much worse a candidate may be and still count as not worse.")
    confidence: float = Field(0.5, ge=0, le=1, description="How probable it must be that the candidate is not worse.")


class ReportConfig(Section):
    """`[report]`."""

    slices: Annotated[tuple[str, ...], _FROM_LISTS] = Field(
        (), description="Imported columns; the report has metrics for each of their values.", examples=[["source"]]
    )


class ScheduleConfig(Section):
    """`[schedule]`."""

    nightly: str = Field("0 2 * * *", description="When pal up runs the night: minute hour day month weekday.")
    timezone: str = Field("UTC", description='Time zone of the schedule, such as "Europe/Berlin".')

    @field_validator("nightly")
    @classmethod
    def _check_nightly(cls, nightly: str) -> str:
        try:
            CronSim(nightly, datetime(2026, 1, 1))
        except CronSimError as error:
            raise ValueError(
                f'{str(error).lower()}; write minute hour day month weekday, such as "0 2 * * *".'
            ) from error
        return nightly

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str) -> str:
        if timezone != "UTC" and timezone not in (zones := zoneinfo.available_timezones()):  # reading them takes 13 ms
            hint = suggest(timezone, sorted(zones))
            example = '; write one such as "Europe/Berlin".'
            raise ValueError(f"there is no such time zone{hint if hint.endswith('?') else example}")
        return timezone

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone."""
        return zoneinfo.ZoneInfo(self.timezone)

    def next_night(self, after: datetime) -> datetime:
        """When the nightly run fires next, in its zone.

        >>> from datetime import UTC
        >>> schedule = ScheduleConfig(nightly="30 2 * * *", timezone="Europe/Berlin")
        >>> print(schedule.next_night(datetime(2026, 1, 1, tzinfo=UTC)))
        2026-01-01 02:30:00+01:00
        """
        return next(CronSim(self.nightly, after.astimezone(self.zone)))


class ServerConfig(Section):
    """`[server]`."""

    host: str = _rare("127.0.0.1", "Address that Prefect's server listens on; 0.0.0.0 lets in anyone, no password.")
    port: int = _rare(4200, "Port of the UI and the API.", ge=1, le=65_535)
    home: str = _rare(".prefect", "Folder of its database and logs; a relative path starts at the workspace.")


class NotifyConfig(Section):
    """`[notify]`."""

    webhook: str = _private("", "URL that gets each event as JSON by POST; $NAME is read from the environment.")
    command: Annotated[tuple[str, ...], _FROM_LISTS] = Field(
        (), description="Program that gets the same JSON on standard input.", examples=[["./notify.sh"]]
    )
    on: Annotated[tuple[Event, ...], _FROM_LISTS] = Field(
        EVENTS, description='Events: "batch", "promotion", "failure", "drift".', examples=[["failure"]]
    )

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, webhook: str) -> str:
        if webhook and not webhook.startswith("$") and urlsplit(webhook).scheme not in ("http", "https"):
            raise ValueError("begin the URL with https:// or http://.")
        return webhook


class LakeConfig(Section):
    """`[lake]`."""

    catalog: str = _private(Workspace.catalog, 'Catalog: "sqlite:PATH" or "postgres:host=db dbname=pal".')
    data: str = _private(Workspace.data, 'Parquet files: a folder or "s3://bucket/folder".')

    @field_validator("catalog")
    @classmethod
    def _check_catalog(cls, catalog: str) -> str:
        kind, _, where = catalog.partition(":")
        if kind not in ("sqlite", "postgres") or not where:
            raise ValueError("write sqlite:PATH, or postgres:host=... dbname=....")
        if kind == "postgres" and re.search(r"(?i)password\s*=|://[^/@\s]*:[^/@\s]*@", where):
            raise ValueError("remove the password; set PGPASSWORD or write it to ~/.pgpass.")
        return catalog

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: str) -> str:
        if "://" in data:
            address = urlsplit(data)
            if address.scheme != "s3" or not address.netloc:
                raise ValueError("write a folder, or s3://bucket/folder.")
            if "@" in address.netloc or address.query:
                raise ValueError("remove the key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        return data


class FilesConfig(Section):
    """`[files]`."""

    root: Annotated[str, _without(root_faults)] = _private(
        Workspace.files, 'Shared files: "s3://bucket/folder", gs:// or abfss://; empty for none.'
    )


class ScaleConfig(Section):
    """`[scale]`."""

    runner: Literal["threads", "dask"] = Field(
        "threads", description='Who makes features and scores the pool: "threads" of this process, or "dask" workers.'
    )
    address: str = Field("", description='Address of the Dask scheduler, such as "tcp://10.0.0.5:8786".')
    resource: str = _rare("", 'Resource of Dask workers that may run a sentence encoder, such as "GPU"; empty for all.')

    @property
    def shared(self) -> bool:
        """Whether workers do it."""
        return self.runner != "threads"

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if self.runner == "dask" and not self.address:
            raise ValueError('address: runner = "dask" needs the scheduler\'s, such as "tcp://10.0.0.5:8786".')
        if self.runner == "threads" and self.address:
            raise ValueError(f'address = {as_toml(self.address)}: remove it, or write runner = "dask".')
        return self


class Config(Section):
    """All of pal.toml; every section but [task] may be missing."""

    task: TaskConfig = Field(description="What to classify.")
    minimums: MinimumsConfig = Field(
        MinimumsConfig(), description="Labelled items before active learning begins; smaller numbers are fine."
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Evaluation items of texts that arrive later.")
    batch: BatchConfig = Field(BatchConfig(), description="Batches: size, files and annotators.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="Which items a batch asks about.")
    model: ModelConfig = Field(ModelConfig(), description="Encoder and training.")
    promotion: PromotionConfig = Field(
        PromotionConfig(), description="When a candidate replaces the production model: if it is probably not worse."
    )
    report: ReportConfig = Field(ReportConfig(), description="What the report shows.")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="Schedule of pal up.")
    server: ServerConfig = Field(ServerConfig(), description="Prefect's server, started by pal up.")
    notify: NotifyConfig = Field(NotifyConfig(), description="Notifications of new batches, promotions and failures.")
    lake: LakeConfig = Field(LakeConfig(), description="Where the tables are; for several machines see docs/lake.md.")
    files: FilesConfig = Field(
        FilesConfig(), description="Where several machines share batches, models and reports; see docs/files.md."
    )
    scale: ScaleConfig = Field(ScaleConfig(), description="Work on several machines.")

    @model_validator(mode="after")
    def _choose_mix(self) -> Self:
        if "mix" not in self.sampling.model_fields_set and len(self.task.labels) > 2:
            sampling = self.sampling.model_copy(update={"mix": default_mix(len(self.task.labels))})
            object.__setattr__(self, "sampling", sampling)
        return self
