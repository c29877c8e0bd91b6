"""What an adjudicator is shown beside a disputed text: who answered what so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from storage.records import BatchItem


def with_answers(items: Sequence[BatchItem], answers: Mapping[str, Sequence[tuple[str, str, str]]]) -> list[BatchItem]:
    """The items with the answers given to them as their context.

    Args:
        answers: item_id -> (annotator, answer, note) of each.

    >>> items = [BatchItem("i1", "Floods", "h")]
    >>> with_answers(items, {"i1": [("anna", "related", ""), ("ben", "unsure", "which town?")]})[0].context
    'anna: related; ben: unsure (which town?)'
    """
    return [replace(item, context="; ".join(map(_told, answers.get(item.item_id, ())))) for item in items]


def _told(answer: tuple[str, str, str]) -> str:
    annotator, given, note = answer
    return f"{annotator}: {given}{f' ({note})' if note else ''}"
