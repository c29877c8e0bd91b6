"""A minute in which everything goes wrong at once lose nothing; `make chaos` goes on for as long as it is told."""

from __future__ import annotations

from chaos import campaign


def test_nothing_acknowledged_is_lost_doubled_or_overruled() -> None:
    outcome = campaign(1)
    assert outcome.faults == 0, outcome
    assert outcome.kills > 0
    assert outcome.models > 0
