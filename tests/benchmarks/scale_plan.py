"""What a night costs at a million to a billion items, computed from a handful of measured constants.

    python tests/benchmarks/scale_plan.py [--items 1000000 ...] [--workers 1 8 ...] [--runs 25] [--NAME VALUE ...]

Each night is simulated shard by shard: drawn times, stragglers, and once more with one worker killed in the middle.
`--NAME VALUE` puts another value in the place of a constant of `Measured`, such as --score-s 0.5.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MILLION = 1_000_000
BLOCK = 131_072


@dataclass(frozen=True)
class Measured:
    """What one core of a machine takes, for a million items where nothing else is said. How to measure each:

    Attributes:
        import_s: `pal import` of a million new texts, less its features; the row "import" of `make bench`.
        features_s: Their features: the line "features of ... items" of the same command.
        ids_s: The coordinator's own part, once a night: reading all ids, and merging the answers of the shards.
        read_s: A worker reads the features of its shard from the lake: the first `ask_shard` less a later one.
        score_s: It scores them: `ask_shard` once the shard is kept.
        passes: How often a night goes over all items: the scoring, and each strategy that asks for more.
        fixed_s: A night that scores nothing: start, training, evaluation, publishing.
        spread: Standard deviation of a shard's time / its mean, over the shards of one night.
        straggling: Share of the shards that take three times as long: a busy neighbour, a slow disk.
        lost_s: From a worker's death until the scheduler gives its shards to others.
        coordinator_bytes: Of memory for each item, in the process of the flow: ids and probabilities.
        worker_bytes: Of memory for each item of the shards that a worker keeps.
        process_mb: A process before it has any item: Python, PyTorch, DuckDB.
        text_bytes: An item in the lake's Parquet files: id, text, hash, time.
        feature_bytes: Its features there.
    """

    import_s: float = 3.4
    features_s: float = 2.0
    ids_s: float = 0.5
    read_s: float = 0.25
    score_s: float = 0.45
    passes: int = 2
    fixed_s: float = 10.0
    spread: float = 0.15
    straggling: float = 0.02
    lost_s: float = 5.0
    coordinator_bytes: int = 70
    worker_bytes: int = 100
    process_mb: int = 600
    text_bytes: int = 45
    feature_bytes: int = 20


@dataclass(frozen=True)
class Prices:
    """Assumptions, in dollars; look yours up.

    Attributes:
        core_hour: A core with 4 GB, rented by the second.
        gb_month: Object storage.
        core_gb: Memory that comes with a core; who needs more pays for more cores.
    """

    core_hour: float = 0.05
    gb_month: float = 0.023
    core_gb: float = 4.0


@dataclass(frozen=True)
class Night:
    """One night, simulated.

    Attributes:
        seconds: From its start to the published batch: the median of all runs.
        late_s: The slowest of twenty.
        killed_s: The median with one worker killed in the middle; None with one worker, where there is no other.
        shards: Number of shards.
        worker_mb: Memory of the fullest worker; None where there is one: the flow's process does it all.
        coordinator_mb: Memory of the flow's process.
        dollars: For the cores of workers and coordinator as long as it takes.
    """

    seconds: float
    late_s: float
    killed_s: float | None
    shards: int
    worker_mb: float | None
    coordinator_mb: float
    dollars: float


def shard_sizes(n_items: int, n_workers: int, most_blocks: int = 32) -> list[int]:
    """Items of each shard: whole blocks in the order of the ids, one shard for each worker unless that were too large.

    >>> shard_sizes(300_000, 2)
    [262144, 37856]
    """
    blocks = math.ceil(n_items / BLOCK)
    size = BLOCK * min(math.ceil(blocks / n_workers), most_blocks)
    return [min(size, n_items - start) for start in range(0, n_items, size)]


def drawn_seconds(sizes: Sequence[int], measured: Measured, generator: np.random.Generator) -> list[float]:
    """How long each shard takes in one night: reading, then every pass."""
    mean = np.array(sizes) / MILLION * (measured.read_s + measured.passes * measured.score_s)
    drawn = mean * np.maximum(generator.normal(1, measured.spread, len(sizes)), 0.1)
    return list(np.where(generator.random(len(sizes)) < measured.straggling, 3 * drawn, drawn))


def makespan(seconds: Sequence[float], n_workers: int, lost_s: float | None = None) -> float:
    """Until the last shard is done: shard number i is worker i modulo n_workers' own, each does its own in their order.

    Args:
        lost_s: Worker 0 is killed in the middle of its work; so much later whoever is free first takes its shards over.
    """
    own = [list(seconds[number::n_workers]) for number in range(n_workers)]
    if lost_s is None:
        return max(map(sum, own))
    free, killed_at = [sum(each) for each in own[1:]], sum(own[0]) / 2
    heapq.heapify(free)
    for again in own[0]:  # what it had read is gone with it, and every later pass needs it
        heapq.heappush(free, max(heapq.heappop(free), killed_at + lost_s) + again)
    return max(free)


def night(n_items: int, n_workers: int, measured: Measured, prices: Prices, runs: int = 25, seed: int = 1) -> Night:
    """Simulate a night several times."""
    sizes = shard_sizes(n_items, n_workers)
    generator = np.random.default_rng(seed)
    alone = measured.fixed_s + measured.ids_s * n_items / MILLION
    drawn = [drawn_seconds(sizes, measured, generator) for _ in range(runs)]
    whole = [alone + makespan(each, n_workers) for each in drawn]
    killed = [alone + makespan(each, n_workers, measured.lost_s) for each in drawn] if n_workers > 1 else []
    kept = max(sum(sizes[number::n_workers]) for number in range(n_workers))
    coordinator_mb = measured.process_mb + measured.coordinator_bytes * n_items / 1e6
    kept_mb = measured.worker_bytes * kept / 1e6
    if n_workers == 1:
        coordinator_mb += kept_mb
        cores = cores_for(coordinator_mb, prices)
    else:
        cores = cores_for(coordinator_mb, prices) + n_workers * cores_for(measured.process_mb + kept_mb, prices)
    seconds = float(np.median(whole))
    return Night(
        seconds,
        float(np.quantile(whole, 0.95)),
        float(np.median(killed)) if killed else None,
        len(sizes),
        measured.process_mb + kept_mb if n_workers > 1 else None,
        coordinator_mb,
        cores * prices.core_hour * seconds / 3600,
    )


def cores_for(megabytes: float, prices: Prices) -> int:
    """Cores that must be paid for to get that much memory."""
    return math.ceil(megabytes / 1000 / prices.core_gb)


def table(items: Sequence[int], workers: Sequence[int], measured: Measured, prices: Prices, runs: int) -> str:
    """All nights as Markdown."""
    lines = [
        "| items | workers | shards | night | slowest of 20 | one killed | each worker | coordinator | lake | night, $ "
        "| month, $ |",
        f"|{'---|' * 11}",
    ]
    for n_items in items:
        stored_gb = n_items * (measured.text_bytes + measured.feature_bytes) / 1e9
        for n_workers in workers:
            if n_workers > math.ceil(n_items / BLOCK):
                continue  # some would have nothing to do
            found = night(n_items, n_workers, measured, prices, runs)
            month = 30 * found.dollars + stored_gb * prices.gb_month
            cells = [
                f"{n_items:,}",
                str(n_workers),
                str(found.shards),
                clock(found.seconds),
                clock(found.late_s),
                clock(found.killed_s) if found.killed_s is not None else "",
                f"{found.worker_mb / 1000:.1f} GB" if found.worker_mb is not None else "",
                f"{found.coordinator_mb / 1000:.1f} GB",
                f"{stored_gb:.2f} GB",
                f"{found.dollars:.4f}",
                f"{month:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def once(items: Sequence[int], workers: Sequence[int], measured: Measured) -> str:
    """The import as Markdown: texts one after another, features by the workers."""
    lines = [f"| items | texts | {' | '.join(f'features, {k}' for k in workers)} |", f"|{'---|' * (2 + len(workers))}"]
    for n_items in items:
        millions = n_items / MILLION
        features = [clock(measured.features_s * millions / k) for k in workers]
        lines.append(f"| {n_items:,} | {clock(measured.import_s * millions)} | {' | '.join(features)} |")
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Seconds as one reads them.

    >>> clock(7.25), clock(95), clock(7300)
    ('7 s', '1.6 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[MILLION, 10 * MILLION, 100 * MILLION, 1000 * MILLION])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--runs", type=int, default=25)
    constants = [*dataclasses.fields(Measured), *dataclasses.fields(Prices)]
    for constant in constants:
        kind = type(constant.default)
        parser.add_argument(f"--{constant.name.replace('_', '-')}", type=kind, default=constant.default)
    chosen = parser.parse_args()
    values = {constant.name: getattr(chosen, constant.name) for constant in constants}
    measured = Measured(**{field.name: values[field.name] for field in dataclasses.fields(Measured)})
    prices = Prices(**{field.name: values[field.name] for field in dataclasses.fields(Prices)})
    print(table(chosen.items, chosen.workers, measured, prices, chosen.runs))
    print()
    print(once(chosen.items, chosen.workers, measured))


if __name__ == "__main__":
    main()
