"""The options of `pal simulate`, checked and converted to an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.run import Count, Size
from storage.errors import SamplingError, SourceError
from tasks.config.values import mix_faults
from tasks.learning.encoders import MINILM_STATIC, SHIPPED
from tasks.simulation.replay import Oracle
from tasks.simulation.replays import Experiment

USUAL = ("random", "default", "least_confidence", "max_positive", "badge")
"""The mixes that are compared by default."""


@dataclass(frozen=True)
class LabelledFile:
    """Texts with labels to replay the loop on.

    Attributes:
        file: CSV, TSV, Parquet or JSON lines; relative to the workspace.
        text_column: Name of the text column; detected if empty.
        label_column: Name of the label column; detected if empty.
        positive: The rare label; the rarer of two if empty.
        evaluation: A file to measure on; a quarter of the other if empty.
    """

    file: str
    text_column: str = ""
    label_column: str = ""
    positive: str = ""
    evaluation: str = ""

    def within(self, root: Path) -> LabelledFile:
        """Resolve relative paths against a directory."""
        evaluation = str(root / self.evaluation) if self.evaluation else ""
        return replace(self, file=str(root / self.file), evaluation=evaluation)


@dataclass(frozen=True)
class Replays:
    """How the loop is replayed.

    Attributes:
        seeds: Number of replays of each mix with each encoder and batch size.
        iterations: Number of batches of the largest size after the start; smaller batches query as many items.
        batch_sizes: Numbers of items per batch; each mix is replayed with each.
        start: Number of random items at the start.
        encoders: Each mix is replayed with each; folders made by `pal adapt` are possible.
        target: AP (F1 without a positive label) to compare mixes by; 0 for the final value of random.
        jobs: Number of processes; 0 for one per core.
    """

    seeds: Count = 5
    iterations: Count = 10
    batch_sizes: tuple[Count, ...] = (100,)
    start: Count = 100
    encoders: tuple[str, ...] = (MINILM_STATIC,)
    target: float = 0.0
    jobs: Size = 0


SHIPPED_SETTINGS = Replays()
EXPERT = Oracle()
"""An annotator without errors."""


def experiment_of(
    data: LabelledFile, mixes: Sequence[str] = (), replays: Replays = SHIPPED_SETTINGS, oracle: Oracle = EXPERT
) -> Experiment:
    """Check the options and make the experiment; duplicates are removed.

    Args:
        mixes: Strategies, `default`, or weighted mixes such as `random=10,entropy=90`; empty for the default mixes.

    Raises:
        SourceError: There is no such file or encoder.
        SamplingError: There is no such strategy.
    """
    for file in filter(None, (data.file, data.evaluation)):
        if not Path(file).is_file():
            hint = "pal simulate FILE, with a column of texts and one of labels"
            raise SourceError(f"There is no file {file}.", hint=hint)
    return Experiment(
        str(Path(data.file).resolve()),
        {name: _mix(name) for name in mixes or USUAL},
        text_column=data.text_column or None,
        label_column=data.label_column or None,
        evaluation=str(Path(data.evaluation).resolve()) if data.evaluation else None,
        positive=data.positive or None,
        encoders=tuple(dict.fromkeys(map(_encoder, replays.encoders))),
        seeds=replays.seeds,
        iterations=replays.iterations,
        batch_sizes=tuple(dict.fromkeys(replays.batch_sizes)),
        start=replays.start,
        oracle=oracle,
    )


def _encoder(name: str) -> str:
    """The name of a shipped encoder, or the absolute path of an adapted one."""
    if name in SHIPPED:
        return name
    if not (Path(name) / "manifest.json").is_file():
        raise SourceError(
            f"There is no encoder {name!r}.",
            hint=f"Use one of {', '.join(SHIPPED)}, or name a folder made by `pal adapt`: encoders/NAME",
        )
    return str(Path(name).resolve())


def _mix(text: str) -> dict[str, float]:
    if text == "default":
        return {}
    try:
        mix = {
            name.strip(): float(weight or 1) for name, _, weight in (part.partition("=") for part in text.split(","))
        }
    except ValueError as error:
        raise SamplingError(f"--mix {text}: {error}.", hint="Write it as random=10,entropy=90.") from error
    if faults := mix_faults({name: int(weight) for name, weight in mix.items()}):
        raise SamplingError(f"--mix {text}: {' '.join(faults)}", hint="List the strategies: pal strategies")
    return mix
