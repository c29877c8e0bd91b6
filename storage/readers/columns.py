"""Which column of a file is the text, the id, the date, the label: asked for, known by name, or told by content."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from storage.errors import SourceError
from storage.readers.dates import parse_date
from storage.readers.source import Layout, shortened
from storage.readers.spellings import folded_label

# In the order of preference, written without separators.
# fmt: off
TEXT_NAMES = [
    "text", "headline", "headlinetext", "title", "sentence", "content", "body", "message", "tweet", "comment",
    "document", "description", "review", "reviewtext", "post", "question", "utterance", "abstract", "summary",
    "articletext", "fulltext", "tweettext",
]
ID_NAMES = [
    "itemid", "id", "ids", "uid", "uuid", "guid", "textid", "docid", "documentid", "headlineid", "articleid",
    "messageid", "tweetid", "commentid", "postid", "reviewid", "sentenceid", "recordid", "rowid", "key",
]
DATE_NAMES = [
    "publishedat", "publishdate", "date", "createdat", "created", "timestamp", "datetime", "publicationdate",
    "published", "time",
]
LABEL_NAMES = [
    "label", "labels", "class", "category", "target", "y", "sentiment", "intent", "topic", "relevance", "relevant",
    "included", "labelincluded", "annotation", "annotations", "answer", "goldlabel", "gold", "polarity", "stance",
    "tag", "tags", "labelname", "classname", "labelid", "classid", "isrelevant",
]
# fmt: on
MOST_LABELS = 50


@dataclass(frozen=True)
class Asked:
    """The columns that the user asked for, each by name or by number (from 1); None: find it.

    Attributes:
        text: Several are joined to one text.
        label: Empty: find the labels, which are needed; None: they are not needed.
        context: Columns to keep beside the text; None for all but those of texts, ids and labels.
    """

    text: tuple[str, ...] = ()
    item_id: str | None = None
    label: str | None = None
    context: tuple[str, ...] | None = ()


DETECT = Asked()
"""Find all but the labels."""


@dataclass(frozen=True)
class Columns:
    """Positions, from 0, of the columns that matter.

    Attributes:
        notes: What was found and not taken, in sentences.
        more_texts: Columns that are joined to the text.
        context: Columns that are kept beside the text, by name.
    """

    text: int
    item_id: int | None
    date: int | None
    label: int | None = None
    notes: tuple[str, ...] = ()
    more_texts: tuple[int, ...] = ()
    context: Mapping[str, int] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[int, ...]:
        """Every column of which the text is made."""
        return (self.text, *self.more_texts)

    @property
    def used(self) -> set[int]:
        """Every column that is read."""
        single = {at for at in (self.item_id, self.date, self.label) if at is not None}
        return {*self.texts, *single, *self.context.values()}

    def text_alone(self) -> Columns:
        """The same without id, date, label and context, so that these are not checked."""
        return Columns(self.text, None, None, more_texts=self.more_texts)


def known_text(name: str) -> bool:
    """Whether a name is known to head a column of texts, however it is spelled.

    >>> known_text("Headline Text"), known_text("nr")
    (True, False)
    """
    return _key(name) in TEXT_NAMES


def text_like(name: str) -> bool:
    """Whether a name is one of a program with a known word for texts in it.

    >>> text_like("headline_en"), text_like("clean_text"), text_like("review"), text_like("a review")
    (True, True, False, False)
    """
    return "_" in name and name.isidentifier() and any(map(known_text, name.split("_")))


def known_name(name: str) -> bool:
    """Whether a name is known to head a column of texts, ids or dates."""
    return _key(name) in {*TEXT_NAMES, *ID_NAMES, *DATE_NAMES}


def known_label(name: str) -> bool:
    """Whether a name is known to head a column of labels."""
    return _key(name) in LABEL_NAMES


def choose_columns(path: Path, names: Sequence[str] | None, sample: Sequence[Sequence[str]], asked: Asked) -> Columns:
    """Find the columns of texts, ids, dates and labels.

    Args:
        path: the file, for messages.
        names: the names of the columns, or None for a file without header.
        sample: some rows, each as wide as the file.

    Raises:
        SourceError: a column asked for is not there, or is there twice, or which one is meant cannot be told.
    """
    width = len(names) if names is not None else len(sample[0])
    titles = [f"column {i + 1}" for i in range(width)] if names is None else list(names)
    table = _Table(path, titles, [[row[i].strip() for row in sample] for i in range(width)])
    item_id = None if asked.item_id is None else table.asked(asked.item_id, "--id-column")
    label = table.asked(asked.label, "--label-column") if asked.label else None
    texts = list(dict.fromkeys(table.asked(name, "--text-column") for name in asked.text))
    text, more_texts = (texts[0], tuple(texts[1:])) if texts else (None, ())
    for position, role, option in ((item_id, "id", "--id-column"), (label, "label", "--label-column")):
        if position is not None and position in (text, *more_texts):
            what = f"Column {titles[position]!r} of {path} cannot be both the text and the {role}."
            raise SourceError(what, hint=f"Name two columns with --text-column and {option}.")
    if item_id is not None and table.is_empty(item_id):
        what = f"The id column {titles[item_id]!r} of {path} is empty."
        raise SourceError(what, hint="Name another with --id-column, or leave the option out: ids are made.")
    taken = {text, *more_texts, item_id, label}
    date = table.known(DATE_NAMES, taken)
    if text is None:
        text = table.known_text(taken)
    notes = []
    if item_id is None:
        item_id = table.known(ID_NAMES, {text, *more_texts, label})
        if item_id is not None and table.is_empty(item_id):
            notes.append(f"The id column {titles[item_id]!r} is empty and is not used.")
            item_id = None
        elif item_id is not None:
            table.refuse_twice(item_id, "--id-column")
    if text is None:
        text = table.longest({item_id, date, label})
        if item_id is None and not notes:
            item_id = table.identifying({text, date, label})
    if asked.label is not None and label is None:
        label = table.label({text, item_id, date})
    date = None if date in {text, item_id, label} else date
    found = Columns(text, item_id, date, label, tuple(notes), more_texts)
    return replace(found, context=table.context(asked.context, {*found.texts, item_id, label}))


def unique_names(names: Sequence[str]) -> list[str]:
    """Names of columns as a table can have them: none empty, none twice in any case.

    >>> unique_names(["id", "Text", "", "text", "text"])
    ['id', 'Text', 'column 3', 'text_2', 'text_3']
    """
    titles = [name.strip() or f"column {i + 1}" for i, name in enumerate(names)]
    known = {title.casefold() for title in titles}
    given: set[str] = set()
    unique = []
    for title in titles:
        name, number = title, 1
        while name.casefold() in given or (number > 1 and name.casefold() in known):
            number += 1
            name = f"{title}_{number}"
        given.add(name.casefold())
        unique.append(name)
    return unique


def layout_of(
    form: Layout, columns: Columns, names: Sequence[str] | None, sample: Sequence[Sequence[str]], path: Path
) -> Layout:
    """A layout with what is known of the columns: which are used and unused, probable labels, three rows."""
    width = len(names) if names is not None else len(sample[0]) if sample else 0
    titles = [f"column {i + 1}" for i in range(width)] if names is None else [name.strip() for name in names]
    roles = {"id": columns.item_id, "text": columns.text, "date": columns.date, "label": columns.label}
    used = {role: position for role, position in roles.items() if position is not None}
    left = [i for i in range(width) if i not in columns.used]
    probable = columns.label
    if probable is None:
        table = _Table(path, titles, [[row[i].strip() for row in sample] for i in range(width)])
        probable = next(iter(table.label_candidates({*columns.texts, columns.item_id, columns.date})), None)
    return replace(
        form,
        columns={role: titles[position] for role, position in used.items()},
        described=described(columns, names, sample),
        unused=[titles[i] for i in left if titles[i]],
        kept=list(columns.context),
        label_column="" if probable is None else titles[probable],
        notes=[*form.notes, *columns.notes],
        sample=[
            {role: shortened(row[position]) for role, position in used.items()}
            | {"text": shortened(" ".join(row[position] for position in columns.texts))}
            for row in sample[:3]
        ],
    )


def described(columns: Columns, names: Sequence[str] | None, sample: Sequence[Sequence[str]]) -> str:
    """The columns in words: `text 'headline', id column 1, no date`; and whether its dates can be read."""

    def one(role: str, position: int | None) -> str:
        if position is None:
            return f"no {role}"
        return f"{role} column {position + 1}" if names is None else f"{role} {names[position].strip()!r}"

    roles = [("id", columns.item_id), ("date", columns.date)]
    if columns.label is not None:
        roles.insert(0, ("label", columns.label))
    texts = " + ".join(one("text", at).removeprefix("" if at == columns.text else "text ") for at in columns.texts)
    said = ", ".join([texts, *(one(role, position) for role, position in roles)])
    dates = [] if columns.date is None else [row[columns.date].strip() for row in sample]
    unread = next(filter(None, dates), None)
    if unread is None or any(map(parse_date, dates)):
        return said
    return f"{said}, left out because dates such as {shortened(unread)!r} are not understood"


def find_name(names: Sequence[str], wanted: str) -> int | None:
    """The position of the column with a name, spelled the same or nearly (case, spaces, `_`)."""
    for same in (str.strip, _key):
        for position, name in enumerate(names):
            if same(name) == same(wanted) != "":
                return position
    return None


@dataclass(frozen=True)
class _Table:
    """The columns of a file: their titles, and the stripped values of some rows, column by column."""

    path: Path
    titles: list[str]
    values: list[list[str]]

    def asked(self, wanted: str, option: str) -> int:
        """The column of a name or a number that the user typed."""
        position = find_name(self.titles, wanted)
        if position is not None:
            self.refuse_twice(position, option)
            return position
        if wanted.strip().isdecimal() and 1 <= int(wanted) <= len(self.titles):
            return int(wanted) - 1
        nearest = get_close_matches(wanted, self.titles, n=1, cutoff=0.5)
        hint = (
            f"{option} {_quoted(nearest[0])}" if nearest else f"{option} NAME, or its number, 1 to {len(self.titles)}."
        )
        raise SourceError(f"{self.path} has no column {wanted!r}. Its columns: {_listed(self.titles)}.", hint=hint)

    def context(self, wanted: Sequence[str] | None, taken: set[int | None]) -> dict[str, int]:
        """The columns to keep, by name: those of `wanted`, else all that are not taken and say something."""
        names = unique_names(self.titles)
        if wanted is None:
            places = [
                i for i, title in enumerate(self.titles) if i not in taken and (title.strip() or any(self.values[i]))
            ]
        else:
            places = [self.asked(name, "--context") for name in wanted]
        return {names[i]: i for i in places}

    def refuse_twice(self, position: int, option: str) -> None:
        """Refuse a column whose name another one has too."""
        same = [i for i, title in enumerate(self.titles) if _key(title) == _key(self.titles[position])]
        if len(same) > 1:
            numbers = " and ".join(str(i + 1) for i in same)
            what = f"{self.path} has {len(same)} columns named {self.titles[position]!r}: columns {numbers}."
            raise SourceError(what, hint=f"{option} {same[0] + 1}, or {same[1] + 1}; or rename one of them.")

    def is_empty(self, position: int) -> bool:
        """Whether a column has no value in any row of the sample."""
        return bool(self.values[position]) and not any(self.values[position])

    def known(self, names: Sequence[str], taken: set[int | None]) -> int | None:
        """The column of the first known name; one that is empty only where there is no other."""
        found = sorted(
            (self.is_empty(i), names.index(_key(title)), i)
            for i, title in enumerate(self.titles)
            if i not in taken and _key(title) in names
        )
        return found[0][2] if found else None

    def known_text(self, taken: set[int | None]) -> int | None:
        """The column of texts by its name; `text` goes before any other, and others are not guessed between.

        Raises:
            SourceError: Two columns may be meant.
        """
        best = self.known(TEXT_NAMES, taken)
        if best is None:
            return None
        self.refuse_twice(best, "--text-column")
        if _key(self.titles[best]) == TEXT_NAMES[0] and not self.is_empty(best):
            return best
        if self.is_empty(best) and self._worded(taken):
            return None
        rivals = [i for i in self._worded(taken) if _key(self.titles[i]) in TEXT_NAMES and i != best]
        if rivals and best in self._worded(taken):
            raise self._untold([best, *rivals])
        return best

    def longest(self, taken: set[int | None]) -> int:
        """The column of texts by its values: words if there are any, by far the longest, not an id."""
        columns = {i: values for i, values in enumerate(self.values) if i not in taken}
        lettered = {i: values for i, values in columns.items() if _mostly(r"[^\W\d_]", values)}
        candidates = {i: values for i, values in lettered.items() if _mostly(r"\s", values)} or lettered
        lengths = {i: sum(map(len, values)) for i, values in candidates.items()}
        rivals = [i for i, length in lengths.items() if length >= 0.8 * max(lengths.values())]
        if len(rivals) > 1:
            rivals = [i for i in rivals if not _identifies(candidates[i])]
        if len(rivals) == 1:
            return rivals[0]
        raise self._untold(rivals)

    def identifying(self, taken: set[int | None]) -> int | None:
        """The first column without spaces and with all values distinct."""
        return next((i for i, values in enumerate(self.values) if i not in taken and _identifies(values)), None)

    def label_candidates(self, taken: set[int | None]) -> list[int]:
        """The columns that may hold labels: the best known name, else all of few values, the fewest first."""
        named = self.known(LABEL_NAMES, taken)
        if named is not None and not self.is_empty(named):
            return [named]
        few: dict[int, int] = {}
        for i, values in enumerate(self.values):
            given = [value for value in values if value]
            number = len({folded_label(value) for value in given})
            if i not in taken and 2 <= number <= min(MOST_LABELS, max(2, len(given) // 2), len(given) - 1):
                few[i] = number
        return sorted(few, key=lambda i: few[i])

    def label(self, taken: set[int | None]) -> int:
        """The column of labels.

        Raises:
            SourceError: It cannot be told.
        """
        found = self.label_candidates(taken)
        if len(found) == 1:
            self.refuse_twice(found[0], "--label-column")
            return found[0]
        titles = [self.titles[i] for i in found]
        what = f"Which column of {self.path} holds the labels cannot be told. Its columns: {_listed(self.titles)}."
        if found:
            hint = f"--label-column {_quoted(titles[0])}; of few values are: {_listed(titles)}."
        else:
            hint = (
                f"--label-column NAME, or its number, 1 to {len(self.titles)}; no column has 2 to {MOST_LABELS} values."
            )
        raise SourceError(what, hint=hint)

    def _worded(self, taken: set[int | None]) -> list[int]:
        """The columns whose values mostly have words and spaces."""
        return [
            i
            for i, values in enumerate(self.values)
            if i not in taken and _mostly(r"[^\W\d_]", values) and _mostly(r"\s", values)
        ]

    def _untold(self, rivals: Sequence[int]) -> SourceError:
        what = f"Which column of {self.path} holds the texts cannot be told. Its columns: {_listed(self.titles)}."
        if not rivals:
            return SourceError(what, hint=f"--text-column NAME, or its number, 1 to {len(self.titles)}.")
        names = [_quoted(self.titles[i]) if _key(self.titles[i]) else str(i + 1) for i in rivals]
        return SourceError(what, hint=f"--text-column {', or '.join(names)}; or NAME, or its number.")


def _mostly(pattern: str, values: list[str]) -> bool:
    return 2 * sum(re.search(pattern, value) is not None for value in values) > len(values)


def _identifies(values: list[str]) -> bool:
    return (
        bool(values)
        and len(set(values)) == len(values)
        and all(value and not re.search(r"\s", value) for value in values)
    )


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _listed(titles: Sequence[str]) -> str:
    shown = ", ".join(repr(title) for title in titles[:20])
    return shown if len(titles) <= 20 else f"{shown} and {len(titles) - 20} more"


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"[^\w.-]", name) else name
