"""One iteration of other active learning loops beside ours: train on the same items, score the pool, choose 100.

All choose by least confidence. small-text and scikit-activeml start from the same vectors, with a logistic regression;
the original (`original_loop.py`) starts from the texts, as it does; ours from the tokens in the lake.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Seconds
from prepared import Matrix, Project, as_array, opened, pool_of

N_ASKED = 100
SEED = 1
"""Another one than pal.toml has, for a model of the same labels that is not there yet."""


def pal(folder: Path) -> Seconds:
    """Ours, the batch reserved in the lake at the end."""
    from tasks.config.settings import SamplingConfig
    from tasks.plan import plan_next_batch
    from tasks.sample import sample_batch
    from tasks.train import train_model

    project = opened(folder)
    model = project.config.model.model_copy(update={"seed": SEED})
    project = project.with_config(sampling=SamplingConfig(mix={"least_confidence": N_ASKED}), model=model)
    started = time.perf_counter()
    sample_batch(project, plan_next_batch(project), train_model(project), beside_open=True)
    return {"one iteration: pal": time.perf_counter() - started}


def small_text(folder: Path) -> Seconds:
    """small-text's pool-based active learner."""
    from sklearn.linear_model import LogisticRegression
    from small_text import LeastConfidence, PoolBasedActiveLearner, SklearnClassifierFactory, SklearnDataset

    project = opened(folder)
    started = time.perf_counter()
    rows, labels, labelled = _arrays(project)
    built = time.perf_counter()
    names = np.unique(labels)
    truth = np.zeros(len(rows), np.int64)
    truth[labelled] = labels
    factory = SklearnClassifierFactory(LogisticRegression(C=1.0, max_iter=1000), len(names))
    learner = PoolBasedActiveLearner(factory, LeastConfidence(), SklearnDataset(rows, truth, target_labels=names))
    learner.initialize_data(labelled, labels)
    assert len(learner.query(num_samples=N_ASKED)) == N_ASKED
    return _told("small-text", started, built)


def scikit_activeml(folder: Path) -> Seconds:
    """scikit-activeml's loop: fit and query."""
    import warnings

    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import UncertaintySampling
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    project = opened(folder)
    started = time.perf_counter()
    rows, labels, labelled = _arrays(project)
    built = time.perf_counter()
    truth = np.full(len(rows), np.nan)
    truth[labelled] = labels
    classifier = SklearnClassifier(LogisticRegression(C=1.0, max_iter=1000), classes=np.unique(labels))
    strategy = UncertaintySampling(method="least_confident", random_state=0)
    assert len(strategy.query(X=rows, y=truth, clf=classifier, fit_clf=True, batch_size=N_ASKED)) == N_ASKED
    return _told("scikit-activeml", started, built)


def _arrays(project: Project) -> tuple[Matrix, Any, Any]:
    """The vectors of pool and training items as one array, the training items' labels, and where they stand in it."""
    pool = pool_of(project, None)
    known = as_array(pool.vectors.of(pool.training.tokens))
    return np.concatenate([as_array(pool.vectors), known]), pool.training.labels, len(pool) + np.arange(len(known))


def _told(library: str, started: float, built: float) -> Seconds:
    name, ended = f"one iteration: {library}", time.perf_counter()
    return {name: ended - started, f"{name}, of it the array": built - started}
