"""Made-up headlines: reproducible, distinct, rarely positive, and neither trivial nor hopeless to learn."""

import hashlib
import random

import pyarrow as pa
import pytest

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


@pytest.mark.parametrize("seed", range(3))
def test_related_headlines_are_7_to_9_percent(seed: int) -> None:
    labels = synthetic_headlines(seed=seed)["label"].to_pylist()
    assert set(labels) == {"related", "not_related"}
    assert 0.07 < labels.count("related") / len(labels) < 0.09


@pytest.mark.parametrize("n", [-1, 0, MAX_HEADLINES + 1])
def test_a_number_out_of_range_is_refused_with_both_numbers(n: int) -> None:
    with pytest.raises(PalError, match=rf"(?<!\d){n:,}\b.*\b{MAX_HEADLINES:,}\b"):
        synthetic_headlines(n)
