"""What `pal init` writes: pal.toml from a preset, or for labels named on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from annotation.label_set import Label, LabelSet
from storage.errors import ConfigError
from tasks.plan import Minimums

DISASTER = LabelSet(
    name="disaster-headlines",
    question="Is this headline disaster-related?",
    definition="""A 'disaster-related' headline is any story about a disaster.
It includes: human, animal and plant disasters; the response to disasters (aid); natural disasters
and man-made ones like wars.
It does not include: criminal acts and non-disaster-related police work; post-response activity like memorials.""",
    labels=(Label("related", "1", positive=True), Label("not_related", "0", default=True)),
)


@dataclass(frozen=True)
class Preset:
    """A label set with the numbers to start with."""

    label_set: LabelSet
    minimums: Minimums


PRESETS = {
    "disaster-headlines": Preset(DISASTER, Minimums()),
    "chapter-2": Preset(DISASTER, Minimums(evaluation=1200, validation=0, training=400, evaluation_share=0.0)),
    "demo": Preset(DISASTER, Minimums()),
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}.", hint=f"choose from: {', '.join(PRESETS)}")
    return PRESETS[name]


def named_labels(names: Sequence[str], positive: str | None, question: str | None) -> LabelSet:
    """A label set for labels named on the command line, with the keys 1, 2, 3 ... (letters after 9).

    Raises:
        ConfigError: They cannot be a label set.
    """
    keys = list("123456789abcefghijklmopqrtvwxyz")[: len(names)]
    labels = tuple(Label(name, key, positive=name == positive) for name, key in zip(names, keys, strict=False))
    found = LabelSet(
        name="my-task",
        question=question or f"Which label fits: {', '.join(names)}?",
        definition="Say here what each label means, with examples of the hard cases.",
        labels=labels,
    )
    faults = found.faults()
    if positive is not None and positive not in names:
        faults.append(f"positive label {positive!r} is none of: {', '.join(names)}")
    if len(names) > len(keys):
        faults.append(f"{len(names)} labels; there are keys for {len(keys)}: write pal.toml by hand")
    if faults:
        raise ConfigError("these labels cannot be used: " + "; ".join(faults), hint="pal init --labels spam,ham")
    return found


def config_text(label_set: LabelSet, minimums: Minimums) -> str:
    """A pal.toml with every value that people change, each with what it means."""
    labels = "\n".join(_label(label) for label in label_set.labels)
    return f"""# What to classify, and how. Every table but [task] may be left out; unknown keys are errors.

[task]
name = {_text(label_set.name)}
question = {_text(label_set.question)}
definition = {_text(label_set.definition)}
labels = [
{labels}
]

[minimums]          # labelled items; smaller numbers are fine
evaluation = {minimums.evaluation}   # a random sample to measure models on, never trained on
evaluation_share = {minimums.evaluation_share}   # of each batch until there are so many; 0 = all before training items
validation = {minimums.validation}      # for early stopping, temperature and threshold; 0 = cross-validate on training
training = {minimums.training}       # before a model chooses items

[batch]
size = 100
formats = ["csv", "xlsx", "html"]   # also: "label-studio", "argilla", "doccano", "prodigy", "original"
annotators = []     # names, each with files of their own; with none, whoever takes a batch answers it
overlap = 1         # how many of them are asked about each item; what they disagree on: pal next --adjudicate
gold = 0.0          # share of settled items mixed in to see how well each does, such as 0.05

[sampling]          # items of a batch by strategy, or shares like "80%"; see them all: pal strategies
mix = {{ random = 10, least_confidence = 80, outlier = 10 }}
keywords = []       # words of the rare label: half of the first training batch is then what is most like them

[model]
encoder = "minilm-static"   # or "minilm-adapted", after `pal adapt`; or "bag-of-words": the original's network
balance = "weights"         # against rare labels: "weights", "equal_draws" or "none"
seed = 0

[promotion]         # a candidate replaces the production model if it is probably not worse on the evaluation items
metric = "ap"       # "ap", "auc" or "f1"
margin = 0.01
confidence = 0.5

[schedule]          # `pal up` brings the server, the schedule and a worker up
nightly = "0 2 * * *"       # minute hour day month weekday
timezone = "UTC"            # or "Europe/Berlin"

[notify]            # who is told of "batch", "promotion" and "failure"
webhook = ""                # gets JSON by POST; "$PAL_WEBHOOK" takes the address from the environment
command = []                # a program that gets it on standard input: ["./tell.sh"]
on = ["batch", "promotion", "failure"]

[lake]              # several machines: "postgres:host=db dbname=pal" and "s3://bucket/lake", docs/lake.md
catalog = "sqlite:lake/catalog.sqlite"
data = "lake/data"

[files]             # batches, inbox, models and reports shared by several machines: docs/files.md
root = ""           # "s3://bucket/folder"; empty: here only

[scale]             # who makes features and scores the pool
runner = "threads"  # or "dask": the workers of a scheduler
address = ""        # of the scheduler: "tcp://10.0.0.5:8786"
"""


def _label(label: Label) -> str:
    marks = "".join(f", {mark} = true" for mark in ("positive", "default") if getattr(label, mark))
    return f"  {{ name = {_text(label.name)}, key = {_text(label.key)}{marks} }},"


def _text(value: str) -> str:
    if "\n" in value and '"' not in value and "\\" not in value:
        return f'"""\n{value}"""'
    return json.dumps(value, ensure_ascii=False)
