"""Synthetic headlines with true labels, and a simulated annotator, for demos and tests.

A grammar, `synthetic_headlines.txt`, generates the headlines. In a rule, capitals name another rule; `|` separates the
alternatives, from frequent to rare, so kinds of disasters have a long tail as in a real newspaper. Both labels share
sentence frames, some `not_related` headlines use the words of disasters ("fire sale"), and the few `VAGUE` ones could
have either label. Places and people are invented.

The labels follow the definition of 'disaster-related': natural and man-made disasters, to humans, animals or
plants, and the aid they call for; not crime, not police work, not memorials.
"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from storage.errors import PalError
from storage.files.spreadsheets import neutralised, restored

RELATED_SHARE = 0.08  # of all headlines, in expectation
MAX_HEADLINES = 100_000  # beyond this, new distinct texts become too rare


def _parse(text: str) -> dict[str, list[list[str]]]:
    """Rules by name; each alternative as its words. `FRAME_OF_X` is `FRAME_OF_EVENT` about an `X_EVENT`."""
    joined = text.strip().replace("\n  ", " ")
    rules = dict(line.split(" = ", 1) for line in joined.splitlines())
    frames = rules.pop("FRAME_OF_EVENT")
    for topic in ("DISASTER", "NEWS"):
        rules[f"FRAME_OF_{topic}"] = frames.replace("EVENT", f"{topic}_EVENT")
    return {name: [option.split() for option in body.split("|")] for name, body in rules.items()}


_GRAMMAR = _parse(Path(__file__).with_name("synthetic_headlines.txt").read_text(encoding="utf-8"))


def _write(rule: str, rng: random.Random) -> list[str]:
    """The words of one headline, or of a part of it."""
    options = _GRAMMAR[rule]
    draw = rng.random()  # the only method whose sequence Python promises to keep for a seed
    words: list[str] = []
    for word in options[int(draw * draw * len(options))]:  # squared: favors the first alternatives
        if word in _GRAMMAR:
            words += _write(word, rng)
        else:
            words.append(word)
    return words


def synthetic_headlines(n: int = 20_000, *, seed: int = 0) -> pa.Table:
    """Generate `n` distinct headlines with their true labels.

    Args:
        n: Number of headlines, 1 to `MAX_HEADLINES`.
        seed: The same seed gives the same headlines, on every Python version and platform; the first
            `k` of a longer table are the table of `k`.

    Returns:
        Table of `n` rows with string columns `item_id` ("demo-00001", ...), `text` (lower case, 3 to 10
        words, no text twice) and `label` ("related" for about 8% of the rows, else "not_related").

    Raises:
        PalError: `n` is out of range.

    Example:
        >>> synthetic_headlines(2).column("item_id").to_pylist()
        ['demo-00001', 'demo-00002']
    """
    if not 1 <= n <= MAX_HEADLINES:
        what = f"{n:,} headlines were requested; 1 to {MAX_HEADLINES:,} are available."
        raise PalError(what, hint=f"Use {min(max(n, 1), MAX_HEADLINES)}.")
    rng = random.Random(seed)
    labels: dict[str, str] = {}
    while len(labels) < n:
        label = "related" if rng.random() < RELATED_SHARE else "not_related"
        text = ""
        while not text or text in labels:
            words = _write(label.upper(), rng)
            text = " ".join(words) if 3 <= len(words) <= 10 else ""
        labels[text] = label
    ids = [f"demo-{number:05d}" for number in range(1, n + 1)]
    return pa.table({"item_id": ids, "text": list(labels), "label": list(labels.values())})


def fill_csv(path: Path, labels: Mapping[str, str], *, annotator: str = "oracle", most: int | None = None) -> int:
    """Fill in the label column of a batch file, in all rows or the first `most`; returns how many were filled.

    Args:
        labels: item_id -> label; rows of other items stay empty.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file))
    column = {name: header.index(name) for name in ("item_id", "label", "annotator")}
    n = 0
    for row in rows:
        label = labels.get(restored(row[column["item_id"]]))
        if label is not None and (most is None or n < most):
            row[column["label"]], row[column["annotator"]] = neutralised(label), neutralised(annotator)
            n += 1
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    os.replace(part, path)  # noqa: PTH105
    return n
