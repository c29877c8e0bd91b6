"""Presets and labels from the command line: keys, names, and a pal.toml that survives any text."""

from __future__ import annotations

import re
import tomllib

import pytest

from annotation.label_set import Label, LabelSet
from flows.cli.presets import DISASTER, PRESETS, config_text, find_preset, named_labels
from storage.errors import ConfigError
from tasks.plan import Minimums


def test_a_preset_is_found_by_name_and_an_unknown_one_names_all() -> None:
    assert find_preset("chapter-2") is PRESETS["chapter-2"]
    with pytest.raises(ConfigError) as raised:
        find_preset("chapter2")
    assert "'chapter2'" in raised.value.what
    assert ", ".join(PRESETS) in raised.value.hint


def test_labels_get_the_keys_in_order_numbers_first_and_none_that_means_something_else() -> None:
    names = [f"label{k}" for k in range(11)]
    found = named_labels(names, "label9", None)
    assert [label.key for label in found.labels] == [*"123456789", "a", "b"]
    assert found.positive == "label9"
    assert found.faults() == []
    assert found.question == f"Which label fits: {', '.join(names)}?"


def test_as_many_labels_as_there_are_keys_can_be_used_and_one_more_is_told() -> None:
    most = named_labels([f"label{k}" for k in range(31)], None, None)
    assert len({label.key for label in most.labels}) == 31
    assert not {label.key for label in most.labels} & set("dnsu0")
    with pytest.raises(ConfigError, match=r"\b32\b.*\b31\b"):
        named_labels([f"label{k}" for k in range(32)], None, None)


def test_every_fault_of_labels_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        named_labels(["spam"], "eggs", None)
    assert re.search(r"\b2\b", raised.value.what), "so many labels are needed"
    assert re.search(r"'eggs'.*\bspam\b", raised.value.what)


@pytest.mark.parametrize(
    "text",
    ['say "no"', "back\\slash", "two\nlines", 'two\n"quoted" lines\\', "Überschwemmung 洪水 \U0001f30a", "tab\there"],
)
def test_any_text_survives_the_pal_toml(text: str) -> None:
    label_set = LabelSet(text, text, text, (Label(text, "1"), Label("b", "2", default=True)))
    task = tomllib.loads(config_text(label_set, Minimums(1, 2, 3)))["task"]
    assert (task["name"], task["question"], task["definition"]) == (text, text, text)
    assert task["labels"] == [{"name": text, "key": "1"}, {"name": "b", "key": "2", "default": True}]


def test_the_minimums_stand_where_people_change_them() -> None:
    found = tomllib.loads(config_text(DISASTER, Minimums(7, 8, 9, 0.5)))
    assert found["minimums"] == {"evaluation": 7, "evaluation_share": 0.5, "validation": 8, "training": 9}
