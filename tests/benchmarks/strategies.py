"""Time and memory of every sampling strategy over many items, beside scoring alone and beside other libraries.

    python tests/benchmarks/strategies.py [--items 1000000] [--texts FILE] [--only NAME ...] [--limit 60] [--no-rivals]

The items are headlines recombined, 256 numbers each under `minilm-static`; 1,000 of them are training items and 500
validation items, of three labels: those nearest to a few disaster words, those nearest to sports words, 8 % each, and
the rest. Every figure is measured in a process of its own,
where scoring the pool is measured just before the strategy. Other libraries get the same vectors as one array, and a
logistic regression on the same training items; their figure includes their scoring, ours does not: the first line is
what scoring of such an array costs. One that takes longer than the limit is told as such.
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

import numpy as np
import numpy.typing as npt
from texts import made_texts

N_ASKED = 100
N_TRAINING, N_VALIDATION = 1_000, 500
DISASTER = ("flood", "bushfire", "earthquake", "killed in crash", "cyclone")
SPORTS = ("cricket", "football match", "grand final", "world cup", "coach")

Matrix = npt.NDArray[np.float32]

RIVALS: dict[str, list[str]] = {
    "least_confidence": ["small-text LeastConfidence", "scikit-activeml UncertaintySampling least_confident"],
    "margin_confidence": ["small-text BreakingTies", "scikit-activeml UncertaintySampling margin_sampling"],
    "entropy": ["small-text PredictionEntropy", "scikit-activeml UncertaintySampling entropy"],
    "random": ["small-text RandomSampling", "scikit-activeml RandomSampling"],
    "core_set": ["small-text GreedyCoreset", "scikit-activeml CoreSet"],
    "contrastive": ["small-text ContrastiveActiveLearning", "scikit-activeml ContrastiveAL"],
    "badge": ["scikit-activeml Badge"],
    "typical_cluster": ["scikit-activeml TypiClust"],
    "probability_cover": ["scikit-activeml ProbCover"],
    "drop_query": ["scikit-activeml DropQuery"],
    "transfer_representative": ["scikit-activeml DiscriminativeAL"],
}
"""Ours -> theirs that do the same. (small-text's AnchorSubsampling needs a library that must be compiled.)"""


def prepare(folder: Path, n: int, source: Path | None) -> None:
    """Token ids of n recombined headlines, and the labels, into a folder."""
    import pyarrow as pa

    from tasks.learning.encoder import minilm_static
    from tasks.learning.vectors import TokenVectors

    made_texts(folder / "texts.csv", n + N_TRAINING + N_VALIDATION, source)
    lines = (folder / "texts.csv").read_text(encoding="utf-8").splitlines()[1:]
    encoder = minilm_static()
    tokens = encoder.tokenize(pa.array([line.split(",", 1)[1] for line in lines], pa.string()))
    vectors = TokenVectors(tokens, encoder.n_tokens, encoder.vectors())
    labels = np.zeros(len(tokens), np.int64)
    for label, named in ((2, SPORTS), (1, DISASTER)):
        words = vectors.of(encoder.tokenize(pa.array(named, pa.string())))
        likeness = vectors.products(words.rows(np.arange(len(named)))).max(axis=1)
        labels[likeness > np.quantile(likeness, 0.92)] = label
    np.savez(folder / "items.npz", ids=tokens.ids, offsets=tokens.offsets, labels=labels)


class Items:
    """What `prepare` left: the pool's texts, the labelled ones, and a model trained on those."""

    def __init__(self, folder: Path) -> None:
        from tasks.learning.encoder import minilm_static
        from tasks.learning.tokens import Tokens
        from tasks.learning.training import Examples, train
        from tasks.learning.training_config import TrainingConfig

        stored = np.load(folder / "items.npz")
        tokens, labels = Tokens(stored["ids"], stored["offsets"]), stored["labels"]
        n = len(tokens) - N_TRAINING - N_VALIDATION
        self.encoder = minilm_static()
        self.tokens = tokens.slice(0, n)
        self.training = Examples(tokens.slice(n, n + N_TRAINING), labels[n : n + N_TRAINING])
        self.validation = Examples(tokens.slice(n + N_TRAINING, len(tokens)), labels[n + N_TRAINING :])
        self.model = train(self.encoder, self.training, None, TrainingConfig(), n_labels=3, positive=1)

    def scored(self) -> Any:
        """The pool as strategies get it: scoring alone is what this costs."""
        import pyarrow as pa

        from tasks.learning.vectors import TokenVectors
        from tasks.sampling.strategy import Head, Labelled, Pool

        layer = self.model.classifier.head
        head = Head(layer.weight.detach().numpy(), layer.bias.detach().numpy(), self.model.calibration.temperature)
        vectors = TokenVectors(self.tokens, self.encoder.n_tokens, self.encoder.vectors())
        logits = vectors.products(head.weight) + head.bias
        probabilities = self.model.calibration.probabilities(logits)
        training, validation = (
            Labelled(part.tokens, part.labels, vectors.of(part.tokens).products(head.weight) + head.bias)
            for part in (self.training, self.validation)
        )
        counts = np.bincount(self.training.tokens.ids, minlength=self.encoder.n_tokens).astype(np.float64)
        words = self.encoder.tokenize(pa.array(DISASTER, pa.string()))
        item_ids = pa.array([f"{k:08d}" for k in range(len(self.tokens))], pa.string())
        return Pool(item_ids, vectors, counts, probabilities, logits, vectors, head, training, validation, 1, words)

    def dense(self, tokens: Any) -> Matrix:
        """Vectors as one array, (m, 256)."""
        from tasks.learning.vectors import SLICE_TEXTS, TokenVectors

        vectors = TokenVectors(tokens, self.encoder.n_tokens, self.encoder.vectors())
        rows = np.empty((len(tokens), vectors.width), np.float32)
        for start in range(0, len(tokens), SLICE_TEXTS):
            stop = min(start + SLICE_TEXTS, len(tokens))
            rows[start:stop] = vectors.rows(np.arange(start, stop))
        return rows


def ours(folder: Path, name: str) -> dict[str, float]:
    """Seconds of scoring alone, and of the strategy after it."""
    from tasks.sampling.catalogue import find_strategy

    items = Items(folder)
    items.scored()  # the first time also allocates
    started = time.perf_counter()
    pool = items.scored()
    scoring = time.perf_counter() - started
    started = time.perf_counter()
    found = find_strategy(name).propose(pool, N_ASKED, np.random.default_rng(0))
    seconds = time.perf_counter() - started
    assert len(set(found.item_ids)) == N_ASKED
    return {"scoring": scoring, "seconds": seconds}


def matrix_product(folder: Path, name: str) -> dict[str, float]:
    """Seconds of a product of ready vectors with the three directions of the head, softmax, and the top of it."""
    import torch

    items = Items(folder)
    vectors = torch.from_numpy(items.dense(items.tokens))
    weight = items.model.classifier.head.weight.detach()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        torch.topk(torch.softmax(vectors @ weight.T, dim=1).amax(dim=1), N_ASKED, largest=False)
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds)}


def rival(folder: Path, name: str) -> dict[str, float]:
    """Seconds of another library's query."""
    import warnings

    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    items = Items(folder)
    rows, known = items.dense(items.tokens), items.dense(items.training.tokens)
    regression = LogisticRegression(C=1.0, max_iter=1000).fit(known, items.training.labels)
    library, rest = name.split(" ", 1)
    query = (_small_text if library == "small-text" else _scikit_activeml)(rest, rows, known, items, regression)
    started = time.perf_counter()
    found = query()
    seconds = time.perf_counter() - started
    assert len(set(np.asarray(found).tolist())) == N_ASKED
    return {"seconds": seconds}


def _small_text(name: str, rows: Matrix, known: Matrix, items: Items, regression: Any) -> Callable[[], Any]:
    import small_text
    from small_text import SklearnDataset

    class Regression:
        """What small-text asks of a classifier."""

        def predict_proba(self, dataset: Any) -> Any:
            return regression.predict_proba(dataset.x)

        def embed(self, dataset: Any, return_proba: bool = False, **_: Any) -> Any:
            return (dataset.x, regression.predict_proba(dataset.x)) if return_proba else dataset.x

    everything = np.concatenate([rows, known])
    dataset = SklearnDataset(everything, np.zeros(len(everything), np.int64), target_labels=np.array([0, 1, 2]))
    strategy = getattr(small_text, name)()
    unlabeled, labeled = np.arange(len(rows)), np.arange(len(rows), len(everything))
    return lambda: strategy.query(Regression(), dataset, unlabeled, labeled, items.training.labels, n=N_ASKED)


def _scikit_activeml(name: str, rows: Matrix, known: Matrix, items: Items, regression: Any) -> Callable[[], Any]:
    import skactiveml.pool
    from skactiveml.classifier import SklearnClassifier

    name, *method = name.split()
    everything = np.concatenate([rows, known])
    labels = np.concatenate([np.full(len(rows), np.nan), items.training.labels])
    strategy = getattr(skactiveml.pool, name)(random_state=0, **({"method": method[0]} if method else {}))
    classifier = SklearnClassifier(regression, classes=[0, 1, 2]).fit(known, items.training.labels)
    arguments: dict[str, Any] = {"X": everything, "y": labels, "batch_size": N_ASKED}
    if name in ("UncertaintySampling", "ContrastiveAL", "Badge", "DropQuery"):
        arguments |= {"clf": classifier, "fit_clf": False}
    if name == "DiscriminativeAL":
        arguments["discriminator"] = SklearnClassifier(type(regression)(), classes=[0, 1])
    return lambda: strategy.query(**arguments)


MEASURES: dict[str, Callable[[Path, str], dict[str, float]]] = {
    "ours": ours,
    "matrix product": matrix_product,
    "rival": rival,
}


def measured(kind: str, folder: Path, name: str, limit: float | None = None) -> tuple[dict[str, float], float] | str:
    """Seconds, and the process's peak memory in MB; or in words why there are none."""
    command = [sys.executable, __file__, "--measure", kind, str(folder), name]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"more than {limit:.0f} s"
    if ran.returncode:
        return f"failed: {(ran.stderr.strip().splitlines() or [f'exit {ran.returncode}'])[-1][:70]}"
    answer = json.loads(ran.stdout.splitlines()[-1])
    return answer["seconds"], answer["peak_mb"]


def show(folder: Path, names: list[str], limit: float, *, rivals: bool) -> None:
    """Measure and print, a line at a time."""
    dense = measured("matrix product", folder, "")
    if isinstance(dense, str):
        raise SystemExit(dense)
    product = dense[0]["seconds"]
    print(f"{'for 100 items':<58}{'seconds':>9}{'x scoring':>11}{'x product':>11}{'peak MB':>9}")
    print(f"{'(ready vectors x head, softmax, top 100)':<58}{product:>9.2f}{'':>11}{1:>11.1f}")
    for name in names:
        found = measured("ours", folder, name)
        if isinstance(found, str):
            raise SystemExit(f"{name}: {found}")
        seconds, scoring = found[0]["seconds"], found[0]["scoring"]
        ratios = f"{seconds / scoring:>11.2f}{seconds / product:>11.1f}"
        print(f"{name:<58}{seconds:>9.2f}{ratios}{found[1]:>9.0f}", flush=True)
        for other in RIVALS.get(name, []) if rivals else []:
            theirs = measured("rival", folder, other, limit)
            if isinstance(theirs, str):
                print(f"  {other:<56}  {theirs}", flush=True)
            else:
                print(f"  {other:<56}{theirs[0]['seconds']:>9.2f}{'':>22}{theirs[1]:>9.0f}", flush=True)


def main() -> None:
    from tasks.sampling.catalogue import strategy_names

    parser = argparse.ArgumentParser(prog="python tests/benchmarks/strategies.py")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--only", nargs="+", default=list(strategy_names()))
    parser.add_argument("--limit", type=float, default=60, help="seconds for another library, its start included")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        kind, folder, name = chosen.measure
        seconds = MEASURES[kind](Path(folder), name)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        print(json.dumps({"seconds": seconds, "peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory(prefix="pal-bench-") as folder:
        prepare(Path(folder), chosen.items, chosen.texts)
        print(f"{chosen.items:,} items, vectors of 256\n")
        show(Path(folder), chosen.only, chosen.limit, rivals=not chosen.no_rivals)


if __name__ == "__main__":
    main()
