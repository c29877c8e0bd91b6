"""What sharing the pool out costs and brings: a batch drawn in this process, on one Dask worker, and on two.

Every process has one thread, so that two workers have twice what one has; they are up before the clock runs.
"""

from __future__ import annotations

import time
from pathlib import Path

from measuring import Seconds
from prepared import newest_model, opened, pool_of

from tasks.project import Project
from tasks.scale.workers import Workers

HERE = "sample, one thread here"
N = 100


def sample(folder: Path, n_workers: str) -> Seconds:
    """A batch by the mix of pal.toml: the pool read and scored, the strategies' picks mixed."""
    import torch

    torch.set_num_threads(1)
    project = opened(folder)
    if n_workers == "0":
        return {HERE: _drawn(project, None)}
    from distributed import LocalCluster

    from tasks.config.settings import ScaleConfig
    from tasks.scale.workers import open_workers

    with (
        LocalCluster(n_workers=int(n_workers), threads_per_worker=1, dashboard_address=None) as cluster,
        open_workers(ScaleConfig(runner="dask", address=cluster.scheduler_address)) as workers,
    ):
        assert workers is not None
        _warm(project, workers)
        return {f"sample, {n_workers} worker{'s' if n_workers != '1' else ''}": _drawn(project, workers)}


def _warm(project: Project, workers: Workers) -> None:
    """Each worker has imported, and opened the lake and the encoder: as workers that did the night before have."""
    from tasks.prepare import add_shard_features, current_encoder

    name = project.config.model.encoder
    encoder_id = current_encoder(project.workspace, name).encoder_id
    what = {"workspace": project.workspace, "encoder_name": name, "encoder_id": encoder_id, "bounds": ("", "")}
    workers.run(add_shard_features, [(number, what) for number in range(len(workers))])


def _drawn(project: Project, workers: Workers | None) -> float:
    from tasks.sampling.mixer import mix_strategies, scaled_mix

    model = newest_model(project)
    started = time.perf_counter()
    pool = pool_of(project, model, workers)
    mixed = mix_strategies(pool, scaled_mix(project.config.sampling.active, N), 0)
    assert len(mixed.item_ids) == N
    return time.perf_counter() - started
