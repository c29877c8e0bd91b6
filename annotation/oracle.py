"""A simulated annotator: fills batch files in as a person with a spreadsheet would, from labels that are known."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from annotation.formats.csv_file import neutralised, restored


def fill_csv(path: Path, labels: Mapping[str, str], *, annotator: str = "oracle", most: int | None = None) -> int:
    """Fill in the label column of a batch file, all rows or the first `most`; returns how many were filled.

    Args:
        labels: item_id -> label; items without one stay empty.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file))
    at = {name: header.index(name) for name in ("item_id", "label", "annotator")}
    n = 0
    for row in rows:
        label = labels.get(restored(row[at["item_id"]]))
        if label is not None and (most is None or n < most):
            row[at["label"]], row[at["annotator"]] = neutralised(label), neutralised(annotator)
            n += 1
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    os.replace(part, path)  # noqa: PTH105
    return n
