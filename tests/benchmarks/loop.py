"""Time and memory of the loop over many items, each beside its floor in the same run: `make bench`.

    python tests/benchmarks/loop.py [--items 1000000] [--texts FILE] [--encoder minilm-static]

Texts are made by recombining halves of headlines: the synthetic ones, or those of FILE (one a line, or CSV with the
text last). Each figure is measured in a process of its own, on the flows' stages without Prefect's start.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from texts import made_texts

RUNS = 3


def timed(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def read_file(root: Path, texts: Path) -> dict[str, float]:
    """Floor of the import: the same file through Arrow's CSV reader."""
    from pyarrow import csv as arrow_csv

    def read() -> None:
        with arrow_csv.open_csv(texts) as reader:
            for _ in reader:
                pass

    return {"reading the file": min(timed(read) for _ in range(RUNS))}


def import_texts(root: Path, texts: Path) -> dict[str, float]:
    """The import flow's stages: texts into the lake, then features."""
    from flows.config import open_project
    from tasks.import_texts import ReadOptions, import_file
    from tasks.prepare import make_features

    project = open_project(root)
    project.workspace.store()
    items = timed(lambda: import_file.fn(project.workspace, texts, ReadOptions()))
    features = timed(lambda: make_features.fn(project.workspace, project.config.model.encoder))
    return {"import": items + features, "  of it items": items, "  of it features": features}


def label(root: Path, texts: Path) -> dict[str, float]:
    """Labels to train and evaluate with; not measured."""
    from flows.config import open_project
    from storage.annotations import LabelledItem, import_labelled
    from storage.records import Split

    project = open_project(root)
    store, task = project.workspace.store(), project.config.task
    ids = [row[0] for row in store.rows("SELECT item_id FROM lake.items ORDER BY item_id LIMIT 2000")]
    for split, part in ((Split.EVALUATION, ids[:1200]), (Split.TRAINING, ids[1200:])):
        labelled = [LabelledItem(each, task.names[k % 3 > 0], "random", None) for k, each in enumerate(part)]
        import_labelled(store, f"bench-{split.value}", split, labelled, task.digest, "bench")
    return {}


def one_pass(root: Path, texts: Path) -> dict[str, float]:
    """Floor of an iteration: the pool's features from the lake, and one pass of the network over them."""
    from flows.config import open_project
    from storage.items import pool_features
    from tasks.learning.classifier import Classifier, predict_logits
    from tasks.learning.tokens import Tokens
    from tasks.prepare import current_encoder

    project = open_project(root)
    store = project.workspace.store()
    encoder = current_encoder(project.workspace, project.config.model.encoder)
    classifier = Classifier(encoder.n_tokens, 2, vectors=encoder.vectors())
    read, scored = [], []
    for _ in range(RUNS):
        started = time.perf_counter()
        slices = [Tokens.from_arrow(part.column("tokens")) for part in pool_features(store, encoder.encoder_id)]
        tokens = Tokens.joined(slices)
        read.append(time.perf_counter() - started)
        scored.append(timed(lambda tokens=tokens: predict_logits(classifier, tokens)))
    return {"reading the features": min(read), "one pass of the network": min(scored)}


def iteration(root: Path, texts: Path) -> dict[str, float]:
    """The next-batch flow's stages: train, evaluate, promote, sample, publish."""
    from flows.config import open_project
    from flows.next_batch import plan_of
    from tasks.evaluate import evaluate_model
    from tasks.promote import promote_or_keep
    from tasks.publish import publish_batches
    from tasks.sample import sample_batch
    from tasks.train import train_model

    project = open_project(root)
    workspace, config = project.workspace, project.config
    seconds = {}
    started = time.perf_counter()
    models: list[str] = []
    arguments = (workspace, config.task, config.model.encoder, config.model.training)
    seconds["  of it train"] = timed(lambda: models.append(train_model.fn(*arguments)))
    seconds["  of it evaluate"] = timed(lambda: evaluate_model.fn(workspace, models[0], config.task.names))
    promote_or_keep.fn(workspace, models[0], config.task.names, config.promotion)
    mix, seed = config.sampling, config.model.seed
    seconds["  of it score and sample"] = timed(
        lambda: sample_batch.fn(
            workspace, plan_of(project), mix, seed, config.task, config.model.encoder, models[0], beside_open=True
        )
    )
    seconds["  of it publish"] = timed(lambda: publish_batches.fn(workspace, config.task))
    return {"next batch": time.perf_counter() - started, **seconds}


def predict(root: Path, texts: Path) -> dict[str, float]:
    """Every item with its label and probability into a file, and the report."""
    from flows.config import open_project
    from tasks.predict_pool import predict_pool
    from tasks.report_contents import report_of, write_page

    project = open_project(root)
    workspace, task = project.workspace, project.config.task
    seconds = {
        f"predict all into {form}": timed(
            lambda form=form: predict_pool.fn(workspace, task, root / f"all.{form}", form)
        )
        for form in ("parquet", "csv", "jsonl")
    }
    return {**seconds, "report": timed(lambda: write_page(report_of(workspace, task), root / "report.html"))}


MEASURES: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    each.__name__: each for each in (read_file, import_texts, label, one_pass, iteration, predict)
}
_PASS = ["reading the features", "one pass of the network"]
FLOORS = {
    "import": ["reading the file"],
    "next batch": _PASS,
    **{f"predict all into {form}": _PASS for form in ("parquet", "csv", "jsonl")},
}


def measured(name: str, root: Path, texts: Path) -> tuple[dict[str, float], float]:
    """Seconds by figure, and the process's peak memory in MB."""
    command = [sys.executable, __file__, "--measure", name, str(root), str(texts)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    answer = json.loads(ran.stdout.splitlines()[-1])
    return answer["seconds"], answer["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/loop.py")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--encoder", default="minilm-static")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        name, root, texts = chosen.measure
        seconds = MEASURES[name](Path(root), Path(texts))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        print(json.dumps({"seconds": seconds, "peak_mb": peak}))
        return
    from flows.presets import DISASTER, config_text
    from tasks.plan import Minimums

    with tempfile.TemporaryDirectory(prefix="pal-bench-") as folder:
        root, texts = Path(folder) / "workspace", Path(folder) / "texts.csv"
        root.mkdir()
        text = config_text(DISASTER, Minimums(1000, 0, 500)).replace('"minilm-static"', f'"{chosen.encoder}"')
        (root / "pal.toml").write_text(text, encoding="utf-8")
        made_texts(texts, chosen.items, chosen.texts)
        print(f"{chosen.items:,} items, {texts.stat().st_size / 1e6:.0f} MB as CSV, encoder {chosen.encoder}\n")
        print(f"{'':<28}{'seconds':>9}{'x floor':>9}{'peak MB':>9}")
        known: dict[str, float] = {}
        for name in MEASURES:
            seconds, peak = measured(name, root, texts)
            known.update(seconds)
            for figure, value in seconds.items():
                floor = sum(known[each] for each in FLOORS.get(figure, []))
                ratio = f"{value / floor:.1f}" if floor else ""
                print(
                    f"{figure:<28}{value:>9.2f}{ratio:>9}{'' if figure.startswith(' ') else f'{peak:.0f}':>9}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
