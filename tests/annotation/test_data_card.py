"""The card says what a stranger needs, and its front matter is what Hugging Face reads."""

from __future__ import annotations

import yaml

from annotation.label_set import LabelSet
from tasks.export import CardFacts, data_card

FACTS = CardFacts(
    {"training": {"related": 900, "not_related": 200}, "evaluation": {"related": 3}}, 1300, 2, 17, "0.1", "pal export x"
)


def test_the_card_has_counts_question_definition_and_the_way_to_the_same_again(label_set: LabelSet) -> None:
    card = data_card(label_set, FACTS)
    for said in ("1,103 ", "| train | related | 900 |", "| test | related | 3 |", label_set.question):
        assert said in card
    assert label_set.definition in card
    assert "`related` (" in card, "it is marked as the positive one"
    assert "`not_related` (" not in card
    assert "version 17" in card
    assert "`pal export x`" in card
    assert not card.startswith("---")


def test_the_front_matter_names_the_file_of_each_split(label_set: LabelSet) -> None:
    card = data_card(label_set, FACTS, {"training": "data/train.parquet", "evaluation": "data/test.parquet"})
    front = yaml.safe_load(card.split("---")[1])
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train.parquet"},
        {"split": "test", "path": "data/test.parquet"},
    ]
    assert front["task_categories"] == ["text-classification"]
    assert front["size_categories"] == ["1K<n<10K"]
    assert front["pretty_name"] == label_set.name
