"""Many different short texts for the benchmarks: halves of headlines, recombined, and a number that no other has."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

SLICE_TEXTS = 262_144
NUMBERS = 10_000
"""The number is written as two words below this, so that the vocabulary does not grow with the texts."""

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


def made_texts(path: Path, n: int, source: Path | None) -> None:
    """A CSV file id,text of n different texts; a slice in memory at a time."""
    halves = [re.sub(r'[",]', " ", text).split() for text in _headlines(source)]  # nothing to quote in CSV
    firsts = pa.array([" ".join(words[: max(1, len(words) // 2)]) for words in halves])
    seconds = pa.array([" ".join(words[len(words) // 2 :]) for words in halves])
    generator = np.random.default_rng(0)
    options = arrow_csv.WriteOptions(quoting_style="none")
    with arrow_csv.CSVWriter(path, SCHEMA, write_options=options) as writer:
        for start in range(0, n, SLICE_TEXTS):
            numbers = np.arange(start, min(start + SLICE_TEXTS, n))
            parts = [each.take(generator.integers(len(each), size=len(numbers))) for each in (firsts, seconds)]
            parts += [pa.array(each).cast(pa.string()) for each in (numbers // NUMBERS, numbers % NUMBERS)]
            ids = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
            columns = [pc.binary_join_element_wise("t", ids, ""), pc.binary_join_element_wise(*parts, " ")]
            writer.write_table(pa.table(columns, SCHEMA))


def _headlines(source: Path | None) -> list[str]:
    """Those of a file (one a line, or CSV with the text last); the synthetic ones without."""
    if source is None:
        from annotation.synthetic import synthetic_headlines

        return synthetic_headlines(20_000)["text"].to_pylist()
    with source.open(encoding="utf-8", newline="") as file:
        return [row[-1] for row in csv.reader(file) if row and row[-1].strip()]
