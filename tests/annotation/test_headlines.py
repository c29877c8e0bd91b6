"""Made-up headlines: reproducible, distinct, rarely positive, and neither trivial nor hopeless to learn."""

import hashlib
import random
import re

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from annotation.synthetic import MAX_HEADLINES, synthetic_headlines
from storage.errors import PalError

DIGEST = "9050d8643b6a455e"  # of the default 20,000; changes with the grammar only


def digest(table: pa.Table) -> str:
    rows = "\n".join(f"{r['item_id']},{r['text']},{r['label']}" for r in table.to_pylist())
    return hashlib.sha256(rows.encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def headlines() -> pa.Table:
    return synthetic_headlines()


def test_the_default_table_is_the_same_on_every_python_and_platform(headlines: pa.Table) -> None:
    assert digest(headlines) == DIGEST


def test_global_randomness_is_neither_used_nor_disturbed() -> None:
    random.seed(5)
    first = digest(synthetic_headlines(50))
    drawn = random.random()
    random.seed(5)
    assert random.random() == drawn
    assert digest(synthetic_headlines(50)) == first


def test_a_longer_table_starts_with_the_shorter_one(headlines: pa.Table) -> None:
    assert headlines.slice(0, 321).to_pylist() == synthetic_headlines(321).to_pylist()


def test_columns_are_strings_with_numbered_ids(headlines: pa.Table) -> None:
    assert headlines.schema == pa.schema([(name, pa.string()) for name in ("item_id", "text", "label")])
    assert headlines["item_id"].to_pylist() == [f"demo-{i:05d}" for i in range(1, 20_001)]


@pytest.mark.parametrize("n", [1, 777, 20_000])
def test_texts_are_exactly_n_and_distinct(n: int) -> None:
    texts = synthetic_headlines(n, seed=9)["text"].to_pylist()
    assert len(texts) == len({t.lower() for t in texts}) == n


def test_texts_are_3_to_10_lower_case_words(headlines: pa.Table) -> None:
    shape = re.compile(r"[a-z0-9]+( [a-z0-9]+){2,9}")
    assert [t for t in headlines["text"].to_pylist() if not shape.fullmatch(t)] == []


@pytest.mark.parametrize("seed", range(3))
def test_related_headlines_are_7_to_9_percent(seed: int) -> None:
    labels = synthetic_headlines(seed=seed)["label"].to_pylist()
    assert set(labels) == {"related", "not_related"}
    assert 0.07 < labels.count("related") / len(labels) < 0.09


@pytest.mark.parametrize("n", [-1, 0, MAX_HEADLINES + 1])
def test_a_number_out_of_range_is_refused_with_both_numbers(n: int) -> None:
    with pytest.raises(PalError, match=rf"(?<!\d){n:,}\b.*\b{MAX_HEADLINES:,}\b"):
        synthetic_headlines(n)


NOT_RELATED = ["memorial unveiled for", "service remembers those lost", "police hunt", "man charged over"]
NOT_RELATED += ["fire sale at", "war of words"]
RELATED = ["shelling resumes in", "locusts swarm over", "koalas burned near", "bushfire threatens", "aid reaches"]
RELATED += ["villagers dig through rubble"]
STARTS = dict.fromkeys(NOT_RELATED, "not_related") | dict.fromkeys(RELATED, "related")


@pytest.mark.parametrize(("start", "label"), STARTS.items())
def test_labels_follow_the_definition(headlines: pa.Table, start: str, label: str) -> None:
    rows = headlines.to_pylist()
    assert {row["label"] for row in rows if row["text"].startswith(start)} == {label}


@pytest.mark.parametrize(
    "word", ["fire", "flood", "storm", "drought", "crash", "war", "tsunami", "aid", "victims", "epidemic"]
)
def test_disaster_words_occur_under_both_labels(headlines: pa.Table, word: str) -> None:
    rows = headlines.to_pylist()
    assert {row["label"] for row in rows if word in row["text"].split()} == {"related", "not_related"}


@pytest.mark.parametrize(
    ("labels", "auc_low", "auc_high", "f1_high"),
    [(100, 0.70, 0.90, 0.50), (300, 0.85, 0.96, 0.65), (1000, 0.93, 0.99, 0.85)],
)
def test_learning_takes_several_hundred_labels(
    headlines: pa.Table, labels: int, auc_low: float, auc_high: float, f1_high: float
) -> None:
    """TF-IDF and balanced logistic regression on random items, mean of 4 draws."""
    y = np.array(headlines["label"].to_pylist()) == "related"
    features = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(headlines["text"].to_pylist())
    auc, f1 = [], []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[2000 : 2000 + labels], order[:2000]
        model = LogisticRegression(class_weight="balanced").fit(features[train], y[train])
        p = model.predict_proba(features[test])[:, 1]
        auc.append(roc_auc_score(y[test], p))
        f1.append(f1_score(y[test], p > 0.5))
    assert auc_low < np.mean(auc) < auc_high
    assert np.mean(f1) < f1_high
