"""Many different short texts for the benchmarks: halves of headlines, recombined."""

from __future__ import annotations

import csv
import random
from pathlib import Path


def made_texts(path: Path, n: int, source: Path | None) -> None:
    """A CSV file id,text of n different texts."""
    if source is None:
        from annotation.headlines import synthetic_headlines

        texts = synthetic_headlines(20_000)["text"].to_pylist()
    else:
        with source.open(encoding="utf-8", newline="") as file:
            texts = [row[-1] for row in csv.reader(file) if row]
    halves = [text.split() for text in texts]
    draw = random.Random(0)
    seen: set[str] = set()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text"))
        while len(seen) < n:
            first, second = draw.choice(halves), draw.choice(halves)
            number = [str(draw.randrange(10_000))] if source is None else []  # or there are not enough of them
            text = " ".join([*first[: max(1, len(first) // 2)], *second[len(second) // 2 :], *number])
            if text not in seen:
                seen.add(text)
                writer.writerow((f"t{len(seen):08d}", text))
