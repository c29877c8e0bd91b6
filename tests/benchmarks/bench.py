"""Time and memory of the whole loop, each figure beside its floor in the same run, in one table: `make bench`.

    python tests/benchmarks/bench.py [--sizes 100000 1000000] [--texts FILE] [--only STRATEGY ...] [--limit 180]

The texts are headlines recombined, the synthetic ones or those of FILE. Every figure is measured in a process of its
own, whose peak memory is told (of Dask workers that of the process that asks them). The floor of import and features
is reading the file with Arrow; that of whatever scores is reading the features and one pass of the network; a strategy
comes after the scoring and is shown beside the same floor. Other libraries are measured up to a million items, whose
vectors take them 1 GB; `--rivals` adds their version of every strategy.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measuring import FEATURES, FILE, PASS, Column, Seconds, measured, table, tell

LARGEST_ARRAY = 1_000_000


@dataclass(frozen=True)
class Step:
    """One process: the function that it runs, as module.function, what that is given, and the row it fills."""

    function: str
    arguments: tuple[str, ...] = ()
    row: str = ""


def prepare(folder: Path, n: str, encoder: str, source: str) -> Seconds:
    """The file of texts and an empty workspace; not measured."""
    from prepared import make_workspace, texts_of
    from texts import made_texts

    make_workspace(folder, encoder)
    made_texts(texts_of(folder), int(n), Path(source) if source else None)
    return {}


def steps(n: int, chosen: argparse.Namespace) -> Iterator[Step]:
    """What is measured at one size, in this order."""
    from strategies import RIVALS

    yield Step("bench.prepare", (str(n), chosen.encoder, str(chosen.texts or "")))
    for name in ("read_file", "import_texts", "features", "label", "one_pass", "train", "evaluate", "score"):
        yield Step(f"loop.{name}")
    for name in chosen.only:
        yield Step("strategies.strategy", (name,), name)
        for other in RIVALS.get(name, []) if chosen.rivals and n <= LARGEST_ARRAY else []:
            yield Step("strategies.rival", (other,), f"- {other}")
    if chosen.rivals and n <= LARGEST_ARRAY:
        yield Step("strategies.matrix_product")
    for name in ("publish", "ingest", "iteration"):
        yield Step(f"loop.{name}")
    for form in ("parquet", "csv", "jsonl"):
        yield Step("loop.predict", (form,))
    yield Step("loop.report")
    for number in ("0", "1", "2"):
        yield Step("shards.sample", (number,))
    yield Step("other_loops.pal")
    if n <= LARGEST_ARRAY:
        yield Step("original_loop.original", (), "one iteration: the original")
        yield Step("other_loops.small_text", (), "one iteration: small-text")
        yield Step("other_loops.scikit_activeml", (), "one iteration: scikit-activeml")


def floors(strategies: list[str]) -> dict[str, list[str]]:
    """Figure -> what it is shown beside."""
    from shards import HERE

    scoring = [
        "score",
        *strategies,
        "whole iteration",
        "predict all, parquet",
        "predict all, csv",
        "predict all, jsonl",
    ]
    return {
        **{figure: [FILE] for figure in ("import", "features")},
        **{figure: [FEATURES, PASS] for figure in (*scoring, "one iteration: pal")},
        **{figure: [HERE] for figure in ("sample, 1 worker", "sample, 2 workers")},
    }


def column(n: int, chosen: argparse.Namespace) -> Column:
    """Everything at one size."""
    found = Column(n)
    with tempfile.TemporaryDirectory(prefix="pal-bench-") as folder:
        for step in steps(n, chosen):
            limit = chosen.limit if step.row else None
            answer = measured(__file__, [step.function, folder, *step.arguments], limit)
            if isinstance(answer, str) and not step.row:
                raise SystemExit(f"{step.function}: {answer}")
            found.take(step.row, answer)
            told = answer if isinstance(answer, str) else ", ".join(f"{k} {v:.2f} s" for k, v in answer.seconds.items())
            print(f"{n:,}: {told or step.function}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    from tasks.sampling.mixer import strategy_names

    parser = argparse.ArgumentParser(prog="python tests/benchmarks/bench.py")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--encoder", default="minilm-static")
    parser.add_argument("--only", nargs="*", default=list(strategy_names()), help="strategies; none with no name")
    parser.add_argument(
        "--limit", type=float, default=180, help="seconds for a strategy or another library, with start"
    )
    parser.add_argument("--rivals", action="store_true", help="also what other libraries have in place of a strategy")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        target, folder, *arguments = chosen.measure
        module, _, function = target.partition(".")
        tell(getattr(importlib.import_module(module), function)(Path(folder), *arguments))
        return
    print(table([column(n, chosen) for n in chosen.sizes], floors(chosen.only)))


if __name__ == "__main__":
    main()
