"""How well `pal find` finds: precision among the first 50 items, with the names of labels as queries.

python tests/benchmarks/search.py TEXTS.csv (columns text,label) prints a line for words, meaning and both.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

from storage.lake.search import Scope
from tasks.config.settings import Config, TaskConfig
from tasks.config.template import config_text, named_labels
from tasks.find import By, Search, find_items
from tasks.import_files import DETECT, import_file
from tasks.prepare import make_features
from tasks.project import Project, open_project

FIRST = 50


def project_of_texts(folder: Path, rows: list[dict[str, str]]) -> Project:
    """A workspace with these texts; the id of an item is its row and label."""
    labels = named_labels(sorted({row["label"] for row in rows}), None, None)
    (folder / "pal.toml").write_text(config_text(Config(task=TaskConfig.of(labels))), encoding="utf-8")
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("id", "text"), *((f"{k}:{row['label']}", row["text"]) for k, row in enumerate(rows))]
        )
    project = open_project(folder)
    import_file(project, folder / "texts.csv", DETECT)
    make_features(project)
    return project


def precision(project: Project, by: By) -> tuple[float, float]:
    """Mean precision over the labels' names as queries, and seconds a query."""
    started, total, names = time.monotonic(), 0.0, project.label_set.names
    for name in names:
        hits = find_items(project, Search(name.replace("_", " "), by=by), Scope(), FIRST)
        total += sum(hit.item_id.partition(":")[2] == name for hit in hits) / FIRST
    return total / len(names), (time.monotonic() - started) / len(names)


def main() -> None:
    """Measure the three ways to rank."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("texts", type=Path)
    with parser.parse_args().texts.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as folder:
        project = project_of_texts(Path(folder), rows)
        for by in ("words", "meaning", "both"):
            value, seconds = precision(project, by)
            print(f"{by:<9} precision@{FIRST} {value:.3f}  ({seconds:.2f} s a query)")


if __name__ == "__main__":
    main()
