"""New texts that differ are noticed, those that do not are not, and the level is what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lake_rows import add_rows
from projects import project_of
from scipy.stats import fisher_exact
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from flows.next_batch import report as write_report
from flows.run import Run, run_here
from storage.lake.models import promote
from storage.lake.slices import earlier_texts, recent_texts
from storage.records import Split
from storage.workspace import Workspace
from tasks.config.settings import NotifyConfig
from tasks.learning.drift import _at_least, drift, new_words
from tasks.learning.training import TrainingConfig
from tasks.report import report_of, watch_drift
from tasks.train import train_model


def test_each_text_is_predicted_by_a_fit_without_it() -> None:
    generator = np.random.default_rng(0)
    old, new = generator.normal(size=(60, 4)), generator.normal(0.4, 2, size=(40, 4))
    features = np.concatenate([old, new])
    features = (features - features.mean(0)) / features.std(0)
    truth = np.arange(100) >= 60
    held_out = []
    for k in range(100):
        rest = np.arange(100) != k
        fitted = Ridge(alpha=100 / 5).fit(features[rest], truth[rest])
        held_out.append(fitted.predict(features[k : k + 1])[0])
    found = drift(old, new, generator)
    assert found.auc == pytest.approx(roc_auc_score(truth, held_out), abs=1e-9)
    assert found.low < found.auc < found.high


def test_false_alarms_are_as_many_as_stated() -> None:
    generator = np.random.default_rng(1)
    p = [drift(*generator.standard_t(3, size=(2, 60, 5)), generator).p for _ in range(200)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert sum(each <= 0.01 for each in p) <= 8


def test_new_words_are_those_of_fishers_exact_test_and_rarely_chance() -> None:
    generator = np.random.default_rng(2)
    texts = [" ".join(row) for row in generator.choice([f"w{k}" for k in range(60)], (300, 4))]
    old, new = texts[:200], [*texts[200:280], *(f"{text} Floods" for text in texts[280:])]
    words = new_words(old, new, 0.05)
    assert [(each.word, each.old, each.new) for each in words] == [("floods", 0.0, 0.2)]
    counts = {
        word: [sum(word in text.casefold().split() for text in side) for side in (new, old)]
        for word in ("floods", "w7")
    }
    for n_new, n_old in counts.values():
        table = [[n_new, 100 - n_new], [n_old, 200 - n_old]]
        expected = fisher_exact(table, alternative="greater").pvalue
        assert _at_least(n_new, n_new + n_old, 100, 200) == pytest.approx(expected)
    alarms = 0
    for _ in range(200):
        order = generator.permutation(np.array(texts, dtype=object)).tolist()
        alarms += bool(new_words(order[:200], order[200:], 0.05))
    assert alarms <= 18


def test_imports_that_always_differ_are_no_drift_until_one_differs_more(workspace: Workspace) -> None:
    store, project = workspace.store(), project_of(workspace)
    generator = np.random.default_rng(0)
    words = ["calm", "seas", "rain", "wind", "council", "vote", "school", "train", "road", "fire"]

    def take(k: int, common: str, n_common: int) -> None:
        """An import whose texts mention a topic of its own."""
        rows = generator.choice(words, (220, 5))
        rows[:n_common, 0] = common
        numbers = generator.choice(10**6, 220, replace=False)
        add_rows(store, [(None, f"{' '.join(row)} {n}") for row, n in zip(rows, numbers, strict=True)], f"{k}.csv")

    for k, topic in enumerate(("tennis", "drought", "ballot", "clinic", "bridge")):
        take(k, topic, 130)
    take(5, "museum", 80)
    recent = recent_texts(store, 200, 1000)
    samples = earlier_texts(store, recent.since, 220, 3)
    assert [len(each.texts) for each in samples] == [220] * 3
    assert all(word in " ".join(each.texts) for each, word in zip(samples, ("bridge", "clinic"), strict=False))
    usual = watch_drift(project)
    assert usual.drift.fires(0.01, 0.55), "significant alone"
    assert (usual.fires, len(usual.earlier)) == (False, 5)
    take(9, "keeper", 220)
    watched = watch_drift(project)
    assert watched.fires
    assert watched.drift.auc > max(watched.earlier)


def test_a_new_topic_is_drift_and_more_of_the_same_is_not(
    workspace: Workspace,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
    tmp_path: Path,
) -> None:
    store, project = workspace.store(), project_of(workspace, training=TrainingConfig(epochs=3))
    labels = list(take_headlines(workspace, 600).items())
    assert watch_drift(project) is None
    take_headlines(workspace, 750, 600)
    take_headlines(workspace, 820, 750)
    recent = recent_texts(store, 200, 100)
    assert (len(recent.old), len(recent.new)) == (100, 100)
    watched = watch_drift(project)
    assert (watched.fires, watched.drift.n_old, watched.drift.n_new, watched.positive) == (False, 600, 220, ())
    give_labels(workspace, dict(labels[:60]))
    give_labels(workspace, dict(labels[60:120]), Split.EVALUATION)
    promote(store, train_model(project).model_id)
    words = np.random.default_rng(0).choice(["midfielder", "scores", "goal", "against", "keeper", "cup"], (240, 6))
    add_rows(store, [(None, f"{' '.join(row)} {k}") for k, row in enumerate(words)], "sport.csv")
    watched = watch_drift(project)
    assert watched.fires
    assert (watched.drift.n_old, watched.drift.n_new, len(watched.positive)) == (820, 240, 2)
    assert all(low <= share <= high for share, low, high in watched.positive)
    assert {each.word for each in watched.words} >= {"midfielder", "keeper"}
    report = report_of(project)
    assert (report.drift, report.drift_fires, report.drift_is_news) == (watched.line(), True, True)
    told = tmp_path / "told"
    script = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"

    def written(run: Run) -> None:
        write_report(run)

    project = project.with_config(notify=NotifyConfig(command=(sys.executable, "-c", script), on=("drift",)))
    for _ in range(2):
        run_here(project, written)
    (line,) = told.read_text(encoding="utf-8").splitlines()
    assert (json.loads(line)["event"], json.loads(line)["text"].partition(":")[0]) == ("drift", "Drift")
