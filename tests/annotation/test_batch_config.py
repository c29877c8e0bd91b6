"""`[batch]`: what cannot be is told in words, everything at once; formats of the command line come before its own."""

from __future__ import annotations

from typing import Any

import pytest

from annotation.batch_config import BatchConfig
from annotation.formats.registry import FORMATS
from storage.errors import BatchError

PEOPLE = ("anna", "Ben Q", "Zoë", "王")


@pytest.mark.parametrize(
    "config",
    [
        BatchConfig(),
        BatchConfig(annotators=PEOPLE, overlap=4, gold=1.0),
        BatchConfig(annotators=("anna",), overlap=1, gold=0.05),
        BatchConfig(formats=tuple(FORMATS)),
    ],
)
def test_what_can_be_used_has_no_faults(config: BatchConfig) -> None:
    assert config.faults() == []


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"formats": ("csv", "xslx")}, "formats = 'xslx': there is no such format; known: csv, xlsx, html, label-"),
        ({"formats": ()}, "formats is empty; choose from: csv, xlsx, html"),
        ({"annotators": ("anna", "")}, "annotators: '' is empty, has spaces around it or cannot be shown"),
        ({"annotators": ("anna", " ")}, "annotators: ' ' is empty"),
        ({"annotators": ("anna ",)}, "annotators: 'anna ' is empty, has spaces around it or cannot be shown"),
        ({"annotators": ("a\tb",)}, "annotators: 'a\\tb' is empty, has spaces around it or cannot be shown"),
        ({"annotators": ("a\nb",)}, "annotators: 'a\\nb' is empty, has spaces around it or cannot be shown"),
        ({"annotators": ("unnamed",)}, "annotators: 'unnamed' is kept for answers without a name"),
        ({"annotators": ("anna", "original")}, "annotators: 'original' is kept for answers without a name"),
        ({"annotators": ("anna", "ben", "Anna")}, "annotators: a name stands there twice"),
        ({"annotators": ("straße", "STRASSE")}, "annotators: a name stands there twice"),
        ({"overlap": 2}, "overlap = 2; from 1 to the number of annotators, 0"),
        ({"annotators": PEOPLE, "overlap": 5}, "overlap = 5; from 1 to the number of annotators, 4"),
        ({"annotators": PEOPLE, "overlap": 0}, "overlap = 0; from 1 to the number of annotators, 4"),
        ({"annotators": PEOPLE, "gold": -0.1}, "gold = -0.1; 0 to 1"),
        ({"annotators": PEOPLE, "gold": 1.01}, "gold = 1.01; 0 to 1"),
        ({"annotators": PEOPLE, "gold": float("nan")}, "gold = nan; 0 to 1"),
        ({"gold": 0.1}, "gold = 0.1 needs annotators: settled items are mixed into the files of each"),
    ],
)
def test_each_fault_is_told_alone(settings: dict[str, Any], fault: str) -> None:
    (told,) = BatchConfig(**settings).faults()
    assert told.startswith(fault)


def test_all_faults_are_told_at_once() -> None:
    config = BatchConfig(formats=("pdf",), annotators=("anna", "anna", "unnamed"), overlap=9, gold=2.0)
    told = [fault.split()[0] for fault in config.faults()]
    assert told == ["formats", "annotators:", "annotators:", "overlap", "gold"]


def test_formats_of_the_command_line_take_the_place_of_its_own() -> None:
    config = BatchConfig(7, ("html",), PEOPLE, 2, 0.5)
    assert config.with_formats(["csv", "doccano"]) == BatchConfig(7, ("csv", "doccano"), PEOPLE, 2, 0.5)
    assert config.with_formats(None) is config
    assert config.with_formats([]) is config


def test_a_format_of_the_command_line_that_is_none_is_an_error_with_the_nearest() -> None:
    with pytest.raises(BatchError) as caught:
        BatchConfig().with_formats(["csv", "label-stdio"])
    assert "'label-stdio'" in caught.value.what
    assert all(value in caught.value.hint for value in ("'label-studio'", "csv, xlsx, html,"))
