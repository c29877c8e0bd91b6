"""Nights that were missed while no worker was up: one run does their work."""

from __future__ import annotations


def cancel_missed() -> None:
    """Placeholder until the real one is written."""
