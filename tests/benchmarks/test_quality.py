"""The JSON of `quality.py` on small generated data: every method in every cell, and metrics within their ranges."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from quality import Answer, falls_behind, main
from sklearn.metrics import average_precision_score

from annotation.synthetic import synthetic_headlines

KEYS = {"data", "labels", "seed", "method", "accuracy", "macro_f1", "ap", "ece", "fit_s", "score_s"}
BASELINES = ["static", "word", "char", "word+char", "static+word"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels (one of them rare) in `rare`, three in `topics`, of which the test file lacks one."""
    rows = [(row["text"], row["label"]) for row in synthetic_headlines(420).to_pylist()]
    names = ("sport", "politics", "food")
    topics = [(f"{names[k % 3]} {names[k % 3]} news: {text}", names[k % 3]) for k, (text, _) in enumerate(rows)]
    parts = {"rare.train": rows[:320], "rare.test": rows[320:], "topics.train": topics[:320]}
    parts["topics.test"] = [row for row in topics[320:] if row[1] != "food"]
    for name, part in parts.items():
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    return tmp_path


def test_every_method_has_a_row_for_each_draw_and_the_file_is_a_list_of_them(folder: Path, tmp_path: Path) -> None:
    main([str(folder), "--labels", "20", "60", "--seeds", "1", "--rivals", "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    cells = [(data, n, 0, method) for data in ("rare", "topics") for n in (20, 60) for method in ("pal", *BASELINES)]
    assert [(row["data"], row["labels"], row["seed"], row["method"]) for row in rows] == cells
    assert all(set(row) == KEYS for row in rows)
    assert all(0 <= row[name] <= 1 for row in rows for name in ("accuracy", "macro_f1", "ap", "ece"))
    assert min(row["ap"] for row in rows if (row["data"], row["labels"]) == ("topics", 60)) > 0.9, "they are named"


def test_replays_start_alike_and_go_on_to_the_number_of_labels(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    main([str(folder), "--only", "rare", "--labels", "200", "--seeds", "1", "--active", "--json", str(file)])
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert [(row["method"], row["labels"]) for row in rows] == [
        (method, n) for method in ("pal-active", "pal-random") for n in (100, 200)
    ]
    assert rows[0]["ap"] == rows[2]["ap"]


def test_metrics_count_the_labels_of_the_test_file_and_of_two_the_rarer_one() -> None:
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]])
    answer = Answer(probabilities, probabilities.argmax(axis=1), 0.0, 0.0)
    each = [average_precision_score(truth == k, probabilities[:, k]) for k in (0, 1)]
    found = answer.metrics(truth, None)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert found["ap"] == pytest.approx(np.mean(each))
    assert answer.metrics(truth, 1)["ap"] == pytest.approx(each[1])


def test_a_method_falls_behind_by_more_than_the_margin_and_the_noise() -> None:
    steady = {"pal": np.array([0.6, 0.7, 0.8]), "word": np.array([0.63, 0.73, 0.83])}
    noisy = {"pal": np.array([0.6, 0.7, 0.8]), "word": np.array([0.8, 0.6, 0.8])}
    assert falls_behind(steady, "pal")
    assert not falls_behind(noisy, "pal")
    assert not falls_behind(steady, "word")
