"""What pal.toml says about machines: whether features and scores are made here or by workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ScaleConfig:
    """Who makes features and scores the pool.

    Attributes:
        runner: `threads` of the flow's own process; or `dask`, the workers of a scheduler.
        address: Of the scheduler, such as tcp://10.0.0.5:8786.
        resource: What workers that read texts with a sentence encoder have, such as "GPU" (`dask worker --resources
            "GPU=1"`); empty: any worker reads.
    """

    runner: Literal["threads", "dask"] = "threads"
    address: str = ""
    resource: str = ""

    @property
    def shared(self) -> bool:
        """Whether workers do it."""
        return self.runner != "threads"

    def faults(self) -> list[str]:
        """What is wrong, one line each with its place."""
        if self.runner == "dask" and not self.address:
            return ['address is missing: runner = "dask" needs that of a scheduler, such as "tcp://10.0.0.5:8786"']
        if self.runner == "threads" and self.address:
            return [f'address = {self.address!r} is for runner = "dask", and runner is "threads"']
        return []
