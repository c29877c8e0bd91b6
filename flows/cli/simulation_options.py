"""What `pal simulate` is asked to replay: mixes named on the command line, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.run import Count, Size
from storage.errors import SamplingError, SourceError
from tasks.config.mix_checks import mix_faults
from tasks.learning.encoders import MINILM_STATIC, SHIPPED
from tasks.simulation.replay import Oracle
from tasks.simulation.replays import Experiment

USUAL = ("random", "default", "least_confidence", "max_positive", "badge")
"""What is compared where nobody says."""


@dataclass(frozen=True)
class LabelledFile:
    """Texts with labels to replay the loop on.

    Attributes:
        file: CSV, TSV, Parquet or JSON lines; a relative one starts at the workspace.
        text_column: Name of the text column; detected where left empty.
        label_column: Name of the label column; detected where left empty.
        positive: The rare label; the rarer of two where left empty.
        evaluation: A file to measure on; a quarter of the other where left empty.
    """

    file: str
    text_column: str = ""
    label_column: str = ""
    positive: str = ""
    evaluation: str = ""

    def within(self, root: Path) -> LabelledFile:
        """The same with relative paths from a directory on."""
        evaluation = str(root / self.evaluation) if self.evaluation else ""
        return replace(self, file=str(root / self.file), evaluation=evaluation)


@dataclass(frozen=True)
class Replays:
    """How the loop is replayed.

    Attributes:
        seeds: Replays of each mix with each encoder and batch size.
        iterations: Batches after the start; of the largest size, in smaller ones as many items are queried.
        batch_sizes: Items of a batch; each mix is replayed with each.
        start: Random items to begin with.
        encoders: Each mix is replayed with each; also folders that `pal adapt` made.
        target: AP (F1 without a positive label) that lines are compared by; 0 for what random reaches at the end.
        jobs: Processes; 0 for one per core.
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
"""An annotator who is always right."""


def experiment_of(
    data: LabelledFile, mixes: Sequence[str] = (), replays: Replays = SHIPPED_SETTINGS, oracle: Oracle = EXPERT
) -> Experiment:
    """The experiment that is meant; what is named twice counts once.

    Args:
        mixes: Each a strategy, `default`, or several with weights: `random=10,entropy=90`; none for the usual ones.

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
    """A shipped encoder's name as it is, an adapted one's folder whole."""
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
