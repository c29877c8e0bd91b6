"""The labels of a pal.toml, changed there: comments, order and every other line stay as they are."""

from __future__ import annotations

import tomllib
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit
from tomlkit.items import AoT

from storage.errors import ConfigError
from tasks.config.load import checked
from tasks.config.settings import Config

Kind = Literal["rename", "merge", "retire", "add", "split"]
Entry = MutableMapping[str, Any]
MARKS = ("positive", "default")


@dataclass(frozen=True)
class LabelEdit:
    """A change of labels as it is typed.

    Attributes:
        labels: Those that go; none where one is only added.
        into: Those in their place, or the added one.
    """

    kind: Kind
    labels: tuple[str, ...] = ()
    into: tuple[str, ...] = ()


def edited(content: bytes, edit: LabelEdit, path: Path) -> bytes:
    """A pal.toml with a change of its labels; made already, nothing changes.

    Raises:
        ConfigError: These cannot be the labels of a task, or the change cannot be written there.
    """
    text = content.decode("utf-8-sig")
    document, wanted = tomlkit.parse(text), tomllib.loads(text)
    _apply(document["task"]["labels"], edit)  # type: ignore[index, arg-type]
    _apply(wanted["task"]["labels"], edit)
    checked(Config, wanted, f"{path}, changed like this,", "Choose other labels; nothing was changed.")
    after = tomlkit.dumps(document)
    if tomllib.loads(after) != wanted:
        raise ConfigError(
            f"The labels in {path} cannot be changed by pal.", hint="Change them there, then run the command again."
        )
    return content[: len(content) - len(text.encode())] + after.encode()  # with the byte order mark, if it has one


def _apply(entries: list[Entry], edit: LabelEdit) -> None:
    """Change the labels of `[task]`; what is gone or there already is left as it is."""
    names = [entry["name"] for entry in entries]
    going = [name for name in names if name in edit.labels and name not in edit.into]
    new = [name for name in edit.into if name not in names]
    marks = {mark for name in going for mark in MARKS if entries[names.index(name)].get(mark)}
    place = names.index(going[0]) if going else len(names)
    if going and new:  # the first in place of the first: with its key, marks and comments
        entries[place]["name"] = new.pop(0)
        going.pop(0)
        place += 1
    elif new and edit.labels and edit.labels[0] in names:
        place = names.index(edit.labels[0]) + 1
    for name in reversed(new):
        entries.insert(place, _entry(entries, name))
    for name in going:
        del entries[[entry["name"] for entry in entries].index(name)]
    heir = next((entry for entry in entries if edit.into and entry["name"] == edit.into[0]), None)
    for mark in sorted(marks):
        if heir is not None and not any(entry.get(mark) for entry in entries):
            heir[mark] = True


def _entry(entries: Sequence[Entry], name: str) -> Entry:
    entry: Entry = tomlkit.table() if isinstance(entries, AoT) else tomlkit.inline_table()
    entry["name"] = name
    return entry
