"""Every sampling strategy over the whole pool for a batch of 100, and what other libraries have in their place.

Other libraries get the same vectors as one array, ready made, and a logistic regression on the same training items;
their figure includes their scoring, ours comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Seconds
from prepared import Matrix, as_array, newest_model, opened, pool_of

N_ASKED = 100

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


def strategy(folder: Path, name: str) -> Seconds:
    """One of ours, after scoring."""
    from tasks.sampling.mixer import find_strategy

    project = opened(folder)
    pool = pool_of(project, newest_model(project))
    started = time.perf_counter()
    found = find_strategy(name).propose(pool, N_ASKED, np.random.default_rng(0))
    seconds = time.perf_counter() - started
    assert len(set(found.item_ids)) == N_ASKED
    return {name: seconds}


def matrix_product(folder: Path) -> Seconds:
    """A product of ready vectors with the directions of the head, softmax, and the top of it."""
    import torch

    project = opened(folder)
    pool = pool_of(project, newest_model(project))
    vectors, weight = torch.from_numpy(as_array(pool.vectors)), torch.from_numpy(pool.head.weight)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        torch.topk(torch.softmax(vectors @ weight.T, dim=1).amax(dim=1), N_ASKED, largest=False)
        seconds.append(time.perf_counter() - started)
    return {"a ready array x head, softmax, top 100": min(seconds)}


def rival(folder: Path, name: str) -> Seconds:
    """Another library's query."""
    import warnings

    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    pool = pool_of(opened(folder), None)
    labels = pool.training.labels
    rows, known = as_array(pool.vectors), as_array(pool.vectors.of(pool.training.tokens))
    regression = LogisticRegression(C=1.0, max_iter=1000).fit(known, labels)
    library, rest = name.split(" ", 1)
    query = (_small_text if library == "small-text" else _scikit_activeml)(rest, rows, known, labels, regression)
    started = time.perf_counter()
    found = query()
    seconds = time.perf_counter() - started
    assert len(set(np.asarray(found).tolist())) == N_ASKED
    return {f"- {name}": seconds}


def _small_text(name: str, rows: Matrix, known: Matrix, labels: Any, regression: Any) -> Callable[[], Any]:
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
    asked = getattr(small_text, name)()
    unlabeled, labeled = np.arange(len(rows)), np.arange(len(rows), len(everything))
    return lambda: asked.query(Regression(), dataset, unlabeled, labeled, labels, n=N_ASKED)


def _scikit_activeml(name: str, rows: Matrix, known: Matrix, labels: Any, regression: Any) -> Callable[[], Any]:
    import skactiveml.pool
    from skactiveml.classifier import SklearnClassifier

    name, *method = name.split()
    everything = np.concatenate([rows, known])
    truth = np.concatenate([np.full(len(rows), np.nan), labels])
    asked = getattr(skactiveml.pool, name)(random_state=0, **({"method": method[0]} if method else {}))
    classifier = SklearnClassifier(regression, classes=[0, 1, 2]).fit(known, labels)
    arguments: dict[str, Any] = {"X": everything, "y": truth, "batch_size": N_ASKED}
    if name in ("UncertaintySampling", "ContrastiveAL", "Badge", "DropQuery"):
        arguments |= {"clf": classifier, "fit_clf": False}
    if name == "DiscriminativeAL":
        arguments["discriminator"] = SklearnClassifier(type(regression)(), classes=[0, 1])
    return lambda: asked.query(**arguments)
