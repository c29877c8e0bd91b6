"""What `pal simulate` is asked to replay: mixes named on the command line, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.errors import SamplingError, SourceError
from tasks.learning.encoder_names import MINILM_STATIC, SHIPPED
from tasks.sampling.sampling_config import SamplingConfig
from tasks.simulation_runs import Experiment

USUAL = ("random", "default", "least_confidence", "max_positive", "badge")
"""What is compared where nobody says."""


def experiment_of(
    file: Path, mixes: Sequence[str], *, encoders: Sequence[str] = (), batch_sizes: Sequence[int] = (), **more: Any
) -> Experiment:
    """The experiment that is meant; what is named twice counts once.

    Args:
        mixes: Each a strategy, `default`, or several with weights: `random=10,entropy=90`; none for the usual ones.
        encoders: None for minilm-static.
        batch_sizes: None for 100.

    Raises:
        SourceError: There is no such file or encoder.
        SamplingError: There is no such strategy.
    """
    if not file.is_file():
        raise SourceError(
            f"there is no file {file}.", hint="pal simulate FILE, with a column of texts and one of labels"
        )
    named = {name: _mix(name) for name in mixes or USUAL}
    return Experiment(
        str(file.resolve()),
        named,
        encoders=tuple(dict.fromkeys(map(_encoder, encoders or (MINILM_STATIC,)))),
        batch_sizes=tuple(dict.fromkeys(batch_sizes or (100,))),
        **more,
    )


def _encoder(name: str) -> str:
    """A shipped encoder's name as it is, an adapted one's folder whole."""
    if name in SHIPPED:
        return name
    if not (Path(name) / "manifest.json").is_file():
        raise SourceError(
            f"there is no encoder {name!r}.",
            hint=f"choose from: {', '.join(SHIPPED)}; or name a folder that `pal adapt` made: encoders/NAME",
        )
    return str(Path(name).resolve())


def _mix(text: str) -> dict[str, float]:
    if text == "default":
        return dict(SamplingConfig().active)
    try:
        mix = {
            name.strip(): float(weight or 1) for name, _, weight in (part.partition("=") for part in text.split(","))
        }
    except ValueError as error:
        raise SamplingError(f"--mix {text}: {error}.", hint="write it as random=10,entropy=90") from error
    if faults := SamplingConfig(mix={name: int(weight) for name, weight in mix.items()}).faults():
        raise SamplingError(f"--mix {text}: {'; '.join(faults)}.", hint="see the strategies: pal strategies")
    return mix
