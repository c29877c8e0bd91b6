"""Errors: one tree, each with what happened and what to type."""

from __future__ import annotations

import pickle

import pytest

from storage import errors
from storage.errors import PalError
from storage.lake.batches import OvertakenError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PalError)]


@pytest.mark.parametrize("kind", [*KINDS, OvertakenError])
def test_every_error_says_what_happened_and_then_what_to_type(kind: type[PalError]) -> None:
    error = kind("12 available / 100 requested.", hint="pal next -n 12")
    assert isinstance(error, PalError)
    assert (error.what, error.hint) == ("12 available / 100 requested.", "pal next -n 12")
    assert str(error) == "12 available / 100 requested.\nHint: pal next -n 12"


def test_the_tree_in_the_docstring_names_every_error_and_no_other() -> None:
    named = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert named == {kind.__name__ for kind in KINDS}


def test_an_error_without_a_hint_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="hint"):
        PalError("something happened.")  # type: ignore[call-arg]


def test_an_error_crosses_a_process_whole() -> None:
    error = pickle.loads(pickle.dumps(errors.BatchError("gone.", hint="pal next")))
    assert isinstance(error, errors.BatchError)
    assert str(error) == "gone.\nHint: pal next"
