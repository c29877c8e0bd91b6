"""Annotates in a terminal: one text at a time, one key per answer, each answer on disk before the next text."""

from __future__ import annotations

import contextlib
import os
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from annotation.formats.journal import Journal
from annotation.keys import HABIT_S, LEAVE, LineKeys, plain, typed_line
from annotation.label_set import SKIP, UNSURE, AnswerError, Handout
from storage.readers.spellings import folded
from storage.records import Answer, BatchItem

MOST_SHOWN = 12
"""Labels shown with each item; if there are more, `?` shows the keys and `/` asks for a part of the name."""
LISTED = 15
"""Items per page of the list; they fit into 24 lines."""
LETTER = "(?![\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])\\w"
"""A letter of a script that has spaces between words."""


@dataclass(frozen=True)
class Tally:
    """Progress of a batch when its annotator leaves: answered items, all items, and counts by answer."""

    answered: int
    total: int
    by_answer: dict[str, int]
    finished: bool


def annotate(
    handout: Handout,
    answered: Mapping[str, str],
    journal: Journal,
    *,
    annotator: str,
    keys: Iterator[str],
    out: TextIO,
) -> Tally:
    """Ask for an answer to every unanswered item until all are answered or the annotator leaves.

    Args:
        handout: The items, in the order to ask, and a label set without faults.
        answered: item_id -> earlier answer, which can be changed by going back.
        journal: Every answer is appended to it before the next question is shown.
        annotator: Recorded with each answer.
        keys: From `terminal_keys` or `line_keys`; their end means save and leave. They are closed at the end.
        out: The stream to show questions on.

    Raises:
        BatchError: An answer cannot be written.
    """
    session = _Session(handout, answered, journal, annotator, keys, out)
    try:
        with contextlib.suppress(_Leave, KeyboardInterrupt):
            session.run()
    finally:
        if close := getattr(keys, "close", None):
            close()
    return session.summary()


class _Leave(Exception):
    """The annotator leaves, or the keys end."""


class _Session:
    def __init__(
        self,
        handout: Handout,
        answered: Mapping[str, str],
        journal: Journal,
        annotator: str,
        keys: Iterator[str],
        out: TextIO,
    ) -> None:
        self._items, self._labels, self._journal = handout.items, handout.label_set, journal
        self._batch_id, self._annotator, self._keys, self._out = handout.batch_id, annotator, keys, out
        self._answers = {item.item_id: answered[item.item_id] for item in self._items if answered.get(item.item_id)}
        self._notes = {item_id: answer.note for item_id, answer in journal.latest.items() if answer.note}
        self._unsaved_notes: set[str] = set()  # items with a note but no answer yet
        self._replaced: list[str | None] = []  # the earlier answer that each answer of this session replaced
        self._marked = _pattern(handout.label_set.highlight)
        self._at, self._shown_at = 0, 0.0
        self._is_typed = len(self._labels.labels) > MOST_SHOWN or any(
            not label.key and not label.default for label in self._labels.labels
        )
        self._pressed = ("", 0.0), ("", 0.0)  # the last two keys, and when each was read
        self._colors = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def run(self) -> None:
        """Ask about one item after the other until the annotator leaves.

        Raises:
            _Leave: The annotator leaves, or the keys end.
            BatchError: An answer cannot be written.
        """
        self._say(self._labels.question, "1")
        self._say(self._commands(), "2")
        self._at = self._next_open(0)
        while True:
            here = self._at
            if here == len(self._items):
                self._end()
                continue
            self._show(self._items[here])
            self._shown_at = time.monotonic()
            while self._at == here:
                self._obey(self._key(), self._items[here])

    def summary(self) -> Tally:
        """Print and return what is answered, with earlier sessions, and list notes on items without an answer."""
        counts = Counter(self._answers.values())
        order = [name for name in (*self._labels.names, UNSURE, SKIP) if name in counts]
        by_answer = {name: counts[name] for name in [*order, *sorted(counts.keys() - set(order))]}
        n_answered, total = len(self._answers), len(self._items)
        for number, item in enumerate(self._items, start=1):
            if item.item_id in self._unsaved_notes:
                self._say(f"The note on {number}/{total} was not saved: the item has no answer.", "33")
        listed = ", ".join(f"{n} {name}" for name, n in by_answer.items())
        n_left = total - n_answered
        self._say(f"\n{n_answered} of {total} answered{f' ({listed})' if listed else ''}, {n_left} left.")
        self._say(f"Saved in {self._journal.path}", "2")
        return Tally(n_answered, total, by_answer, finished=n_left == 0)

    def _obey(self, key: str, item: BatchItem) -> None:
        label = self._label(key)
        match key.casefold():
            case _ if label:
                self._answer(item, label)
            case "u":
                self._answer(item, UNSURE)
            case " ":
                self._answer(item, SKIP)
            case "2" | "backspace" | "left":
                self._back()
            case "right" if item.item_id in self._answers:
                self._at += 1
            case "right":
                self._say("This item has no answer yet; press space to skip it.", "33")
            case "n":
                self._note(item)
            case "/" if self._is_typed:
                self._type_label(item)
            case "d" | "?":
                self._help()
                self._show(item)
            case pressed if pressed == self._undo_key():
                self._undo()
            case pressed if pressed == self._list_key():
                self._list()
            case "s" | "q":
                raise _Leave
            case "enter":
                self._say("Enter does not choose an answer here; press ? for the keys.", "33")
            case _:
                self._say(f"{plain(key)!r} does nothing here; press ? for the keys.", "33")

    def _label(self, key: str) -> str | None:
        if key == "enter":
            return self._labels.default
        return next((x.name for x in self._labels.labels if x.key and x.key.casefold() == key.casefold()), None)

    def _type_label(self, item: BatchItem) -> None:
        line = self._typed("Label or a part of it, then Enter (empty = cancel): ")
        near = [name for name in self._labels.names if line and folded(line) in folded(name)]
        try:
            answer = self._labels.answer(line)
        except AnswerError as error:
            if len(near) != 1:
                self._say(
                    f"Several labels contain {plain(line)!r}: {', '.join(near)}." if near else plain(str(error)), "33"
                )
                return
            answer = near[0]
        if answer:
            self._answer(item, answer)

    def _answer(self, item: BatchItem, answer: str) -> None:
        again = item.item_id in self._answers
        self._keep(item, answer)
        self._say(f"-> {answer}", "32")
        self._point_out_habit(answer)
        self._at = self._at + 1 if again else self._next_open(self._at + 1)

    def _point_out_habit(self, answer: str) -> None:
        (previous, previous_s), (key, pressed_s) = self._pressed
        elapsed_s = pressed_s - previous_s
        if key == "enter" and len(previous) == 1 and elapsed_s < HABIT_S and not isinstance(self._keys, LineKeys):
            delay = f"Enter {elapsed_s:.2f} s after {'space' if previous == ' ' else plain(previous)}"
            effect = f"answered THIS item ({self._at + 1}/{len(self._items)}) {answer!r}"
            self._say(f"{delay} {effect}; keys need no Enter. Press {self._back_key()} to go back.", "33")

    def _keep(self, item: BatchItem, answer: str) -> None:
        seconds = round(time.monotonic() - self._shown_at, 3)
        note = self._notes.get(item.item_id, "")
        record = Answer(item.item_id, answer, self._annotator, note, seconds, datetime.now(UTC))
        self._journal.append(self._batch_id, item.text_hash, record)
        self._replaced.append(self._answers.get(item.item_id))
        self._answers[item.item_id] = answer
        self._unsaved_notes.discard(item.item_id)

    def _back(self) -> None:
        if self._at == 0:
            self._say("This is the first item.", "33")
        else:
            self._at -= 1

    def _undo(self) -> None:
        """Remove the last answer of this session, and show its item again."""
        undone = self._journal.undo()
        if undone is None:
            self._say("Nothing to undo in this session; go back to change an answer.", "33")
            return
        item_id, before = undone.item_id, self._replaced.pop()
        if before is None:
            del self._answers[item_id]
        else:
            self._answers[item_id] = before
        if latest := self._journal.latest.get(item_id):
            self._notes[item_id] = latest.note
        elif before is None and undone.note:
            self._unsaved_notes.add(item_id)
        self._say(f"Undone: {undone.answer}.", "32")
        self._go(next(number for number, item in enumerate(self._items) if item.item_id == item_id))

    def _list(self) -> None:
        """List items with their answers; go to an item by number, or search in texts, notes and answers."""
        query = ""
        while True:
            self._say("")
            matches = [number for number, item in enumerate(self._items) if query in self._searched(item)]
            start = 0 if query else max(0, min(self._at - LISTED // 2, len(matches) - LISTED))
            for number in matches[start : start + LISTED]:
                item, mark = self._items[number], ">" if number == self._at else " "
                answer = self._answers.get(item.item_id, "-")
                line = f"{mark}{number + 1:>5}  {cut(answer, 14):<14}  {' '.join(plain(item.text).split())}"
                self._say(cut(line, self._width() or 80))
            n_hidden = len(matches) - min(len(matches), LISTED)
            self._say(f"{n_hidden:,} more not shown." if n_hidden else "" if matches else "No item matches.", "2")
            line = self._typed("Number = go to item, words = search, empty = close: ").strip()
            if line.isdecimal() and 1 <= int(line) <= len(self._items):
                return self._go(int(line) - 1)
            if not line:
                return self._go(self._at)
            query = folded(line)

    def _searched(self, item: BatchItem) -> str:
        return folded(f"{self._answers.get(item.item_id, '')} {self._notes.get(item.item_id, '')} {item.text}")

    def _go(self, to: int) -> None:
        """Show an item next, even if it is the current one."""
        if to == self._at < len(self._items):
            self._show(self._items[to])
        self._at = to

    def _typed(self, prompt: str) -> str:
        self._write(prompt)
        if (line := typed_line(self._keys, self._write)) is None:
            raise _Leave
        self._say("")
        return line

    def _note(self, item: BatchItem) -> None:
        note = plain(self._typed("Note, then Enter (empty = no change): ")).replace("\n", " ").strip()
        if not note:
            self._say("The note is unchanged.")
            return
        self._notes[item.item_id] = note
        if answer := self._answers.get(item.item_id):
            self._keep(item, answer)
            self._say(f"Note saved: {note}", "32")
        else:
            self._unsaved_notes.add(item.item_id)
            self._say(f"The note will be saved with your answer: {note}")

    def _end(self) -> None:
        if not self._items:
            raise _Leave
        back = self._back_key()
        allowed = in_a_row([f"{back} back", f"{self._list_key()} list", f"{self._undo_key()} undo", "Enter finish"])
        self._say(f"\nAll {len(self._items)} items are answered.\n{allowed}")
        while self._at == len(self._items):
            match (key := self._key()).casefold():
                case "enter" | "s" | "q":
                    raise _Leave
                case "backspace" | "left" | "2" if key != "2" or back == "2":
                    self._back()
                case pressed if pressed == self._undo_key():
                    self._undo()
                case pressed if pressed == self._list_key():
                    self._list()
                    return
                case _:
                    self._say(f"{plain(key)!r} does nothing here. Keys: {allowed}", "33")

    def _show(self, item: BatchItem) -> None:
        self._say(f"\n{self._at + 1}/{len(self._items)} · batch {self._batch_id}", "2")
        self._say(self._highlighted("\n  " + plain(item.text).replace("\n", "\n  ") + "\n"), "1")
        for name, value in item.columns:
            self._say(f"{plain(name)}: {plain(value)}", "2")
        if item.context:
            self._say(f"Answers so far: {plain(item.context)}", "36")
        if answer := self._answers.get(item.item_id):
            self._say(f"Answer: {answer} · → keep and continue", "36")
        if note := self._notes.get(item.item_id):
            self._say(f"Note: {plain(note)}", "36")
        self._say(self._choices(), "2")

    def _choices(self) -> str:
        if len(self._labels.labels) > MOST_SHOWN:
            return in_a_row(["/ label", "? keys"])
        keys = [(label.name, "Enter" if label.default else label.key) for label in self._labels.labels]
        labels = [f"{key} {name}" for name, key in keys if key]
        return in_a_row(
            [*labels, f"/ another label ({sum(not key for _, key in keys)} without a key)"]
            if self._is_typed
            else labels
        )

    def _commands(self) -> str:
        keys = ["u unsure", "space skip", "n note", f"{self._list_key()} list", f"{self._undo_key()} undo", "? help"]
        return in_a_row([f"{self._back_key()} back", *keys, "s leave"])

    def _help(self) -> None:
        """Show the definition and the labels with their keys."""
        self._say("\n" + (self._labels.definition or "These labels have no definition.") + "\n")
        for label in self._labels.labels:
            meaning = f"\n     {' '.join(plain(label.description).split())}" if label.description else ""
            self._say(
                f"  {' or '.join(filter(None, [label.key, 'Enter' * label.default])) or '/'}  {label.name}{meaning}"
            )
        self._say(f"\n{self._commands()}", "2")

    def _back_key(self) -> str:
        return "←" if self._labels.by_key("2") else "2"

    def _list_key(self) -> str:
        return "ctrl-l" if self._label("l") else "l"

    def _undo_key(self) -> str:
        return "ctrl-u" if self._label("z") else "z"

    def _highlighted(self, text: str) -> str:
        return self._marked.sub("\x1b[4m\\g<0>\x1b[24m", text) if self._marked and self._colors else text

    def _width(self) -> int:
        """Columns of the terminal; 0 if there is none."""
        if not self._out.isatty():
            return 0
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except OSError:
            return 80

    def _next_open(self, start: int) -> int:
        """The index of the first unanswered item from `start` on; the number of items if all are answered."""
        end = len(self._items)
        return next((n for n in range(start, end) if self._items[n].item_id not in self._answers), end)

    def _key(self) -> str:
        key = next(self._keys, "ctrl-d")
        if key == LEAVE:
            raise _Leave
        self._pressed = self._pressed[1], (key, time.monotonic())
        return key

    def _say(self, text: str, color: str = "") -> None:
        text = wrapped(text, self._width()).replace("\u00a0", " ")
        self._write(f"\x1b[{color}m{text}\x1b[0m\n" if color and self._colors else f"{text}\n")

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding))
        self._out.flush()


def _pattern(words: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern for whole words in any case; None without words."""
    parts = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
    return re.compile(f"(?<!{LETTER})(?:{parts})(?!{LETTER})", re.IGNORECASE) if parts else None


def wrapped(text: str, width: int) -> str:
    """Wrap the text between words to at most `width` columns, keeping the indentation of each line.

    Only words longer than a line are broken; a no-break space does not end a word. With width 0 nothing is changed.

    >>> print(wrapped("  one two three four", 11))
      one two
      three
      four
    """
    if not width:
        return text
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))][: width // 2]
        current, is_empty = indent, True
        for piece in re.findall(r"[^\S\u00a0]*[\S\u00a0]+", line[len(indent) :]):
            if not is_empty and _columns(current + piece) > width:
                lines.append(current)
                current, piece = indent, piece.lstrip()
            current, is_empty = current + piece, False
            while _columns(current) > width:
                lines.append(cut(current, width, end=""))
                current = indent + current[len(lines[-1]) :]
        lines.append(current)
    return "\n".join(lines)


def in_a_row(keys: Iterable[str]) -> str:
    """Join keys with their meanings such that none is broken between two lines."""
    return "\u00a0· ".join(key.replace(" ", "\u00a0") for key in keys)


def _columns(text: str) -> int:
    """The width of a text in a terminal."""
    text = re.sub(r"\x1b\[\d*m", "", text)
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text if not unicodedata.combining(char))


def cut(text: str, width: int, end: str = "…") -> str:
    """Truncate a text to `width` columns."""
    if _columns(text) <= width:
        return text
    end_at = len(text)
    while end_at > 1 and _columns(text[:end_at] + end) > width:
        end_at -= max(1, (_columns(text[:end_at]) - width) // 2)
    return text[:end_at] + end
