"""An annotator's name as part of a file name: told apart everywhere, and never another file's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annotation.formats.journal import journal_path
from annotation.formats.registry import FORMATS, SETUP_FILES, is_for_answers
from annotation.inbox import ERRORS_SUFFIX
from annotation.label_set import safe_name

NAMES = st.text(max_size=80) | st.text('aA.~-/\\:*?"<>| ', min_size=1, max_size=6)


@given(NAMES, NAMES)
@example("anna", "Anna")
@example("Zoë", "Zoe\u0308")
@example("a/b", "a:b")
@example("", "-")
@example("\ud800", "\ud801")
def test_names_that_differ_give_files_that_differ_also_where_case_does_not_count(first: str, second: str) -> None:
    assert (safe_name(first).casefold() == safe_name(second).casefold()) is (first == second)


@given(NAMES)
@example("CON")
@example("x" * 300)
@example("ﬀ" * 50)
@example("settings")
@example("labels")
@example("config")
@example("anna.errors")
def test_every_file_of_an_annotator_can_be_written_anywhere_and_is_told_from_those_beside_it(name: str) -> None:
    safe = safe_name(name)
    assert safe.isascii()
    assert safe == safe.lower()
    assert safe.isprintable()
    assert not set(safe) & set(' <>:"/\\|?*')
    assert len(safe) <= 64
    folder = Path("folder")
    for path in (journal_path(folder, name), *(form.path(folder, name) for form in FORMATS.values() if name)):
        assert path.parent == folder
        assert path.name not in SETUP_FILES
        assert is_for_answers(path.name)
        assert not path.name.endswith(ERRORS_SUFFIX), "it would pass for a list of errors, and not be read"


@pytest.mark.parametrize("name", ["anna", "anna.smith", "a_b-c", "a@example.org", "x" * 64, "007"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == name


def test_a_name_that_cannot_stay_can_still_be_recognised() -> None:
    assert safe_name("Anna Smith").startswith("anna-smith~")
    assert safe_name("王").startswith("~")
