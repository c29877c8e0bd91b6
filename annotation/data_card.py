"""The card of an exported data set: what is in it, how it came about, and how to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from annotation.label_set import LabelSet

SPLIT_NAMES = {"training": "train", "validation": "validation", "evaluation": "test"}
"""Our splits, and what they are called where data sets are shared."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides the labels' definition.

    Attributes:
        counts: Split -> label -> items.
        made_by: The command that makes the same again.
    """

    counts: Mapping[str, Mapping[str, int]]
    n_answers: int
    n_annotators: int
    lake_version: int
    code_version: str
    made_by: str


def data_card(label_set: LabelSet, facts: CardFacts, files: Mapping[str, str] | None = None) -> str:
    """A card as Markdown, with the front matter that Hugging Face reads where the data set has a file for each split.

    Args:
        files: Split -> path of its file; None for a data set in one file.
    """
    total = sum(n for counts in facts.counts.values() for n in counts.values())
    names = ", ".join(f"`{label.name}`{' (the rare one)' if label.positive else ''}" for label in label_set.labels)
    rows = [
        f"| {SPLIT_NAMES.get(split, split)} | {label} | {n:,} |"
        for split, counts in facts.counts.items()
        for label, n in counts.items()
    ]
    return f"""{_front_matter(label_set, total, files) if files is not None else ""}# {label_set.name}

{total:,} short texts with a label each: {names}.

**Question to the annotators:** {label_set.question}

{label_set.definition}

| split | label | items |
|---|---|---|
{chr(10).join(rows)}

## How it came about

- {facts.n_answers:,} answers of {facts.n_annotators:,} annotator(s). A label is the answer of most of them, or what an
  adjudicator settled. `n_answers` counts those that stand, `n_agree` those that equal the label.
- The texts of `test` and `validation` were drawn at random: figures on them hold for the whole collection.
- The texts of `train` were partly chosen by a model, because it was unsure of them or had seen nothing like them: the
  labels' shares there are not those of the collection.
- `batch_id` is the batch in which a text was first asked about, `annotated_at` when it was last answered (UTC).

Lake version {facts.lake_version}, pytorch-active-learning {facts.code_version}. The same again: `{facts.made_by}`
"""


def _front_matter(label_set: LabelSet, total: int, files: Mapping[str, str]) -> str:
    listed = "\n".join(f"  - split: {SPLIT_NAMES[split]}\n    path: {path}" for split, path in files.items())
    size = next((name for most, name in _SIZES if total < most), "n>1M")
    return f"""---
pretty_name: {json.dumps(label_set.name)}
task_categories:
- text-classification
size_categories:
- {size}
configs:
- config_name: default
  data_files:
{listed}
---

"""


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
