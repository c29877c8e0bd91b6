"""Other annotation tools: where they are, what they are given, and what two people answer in them."""

from __future__ import annotations

from pathlib import Path

from handouts import IDS, LABELS, NASTY

from annotation.label_set import Handout
from storage.readers.spellings import text_hash
from storage.records import BatchItem

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / ".venv" / "tools"
Given = dict[str, dict[str, tuple[str, str]]]


def program(tool: str, name: str) -> str:
    """A program of a tool, which `make test-slow` installs into an environment of its own."""
    path = TOOLS / tool / "bin" / name
    assert path.exists(), f"no {path}: make test-slow installs it"
    return str(path)


def nasty_handout() -> Handout:
    """Nasty texts and ids, one of them with answers so far."""
    ids = [*IDS, *(f"i{n}" for n in range(len(NASTY)))]
    items = [BatchItem(ids[n], text, text_hash(text), "bo: related" if n == 3 else "") for n, text in enumerate(NASTY)]
    return Handout("b0001-training", LABELS, items)


def answers_to(handout: Handout, first: str, second: str) -> Given:
    """What two people answer: everything but two items, and the second not what the first does."""
    names = [*LABELS.names, "unsure", "skip"]
    ids = [item.item_id for item in handout.items][:-2]
    return {
        name: {
            item_id: (answer, "" if answer == "skip" or n % 3 else f"note {n}\nof {name}")
            for n, item_id in enumerate(ids)
            for answer in [names[(n + shift) % len(names)]]
        }
        for name, shift in ((first, 0), (second, 2))
    }
