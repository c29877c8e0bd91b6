"""Choose the text, id, date and label columns of a file: as requested, by a known name, or from the values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from storage.errors import SourceError
from storage.readers.source import Layout, shortened
from storage.readers.spellings import folded_label, parse_date

# In order of preference; lower case and without separators.
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
MAX_LABELS = 50


@dataclass(frozen=True)
class ColumnRequest:
    """The columns that the user requested, each by name or by number (from 1); None means: detect it.

    Attributes:
        text: Several columns are joined to one text.
        label: Empty means: required, detect it. None means: not required.
        context: Columns to keep with the text; None for all except the text, id and label columns.
    """

    text: tuple[str, ...] = ()
    item_id: str | None = None
    label: str | None = None
    context: tuple[str, ...] | None = ()


DETECT = ColumnRequest()
"""Detect every column except the labels."""


@dataclass(frozen=True)
class Columns:
    """Positions, from 0, of the columns to read.

    Attributes:
        notes: Sentences about columns that were detected but are not used.
        more_texts: Columns that are joined to the text.
        context: Columns that are kept with the text, by name.
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

    def text_only(self) -> Columns:
        """Return the text columns only, so that ids, dates, labels and context are not checked."""
        return Columns(self.text, None, None, more_texts=self.more_texts)


def known_text(name: str) -> bool:
    """Whether a name is a known name of a text column; case and separators are ignored.

    >>> known_text("Headline Text"), known_text("nr")
    (True, False)
    """
    return _key(name) in TEXT_NAMES


def text_like(name: str) -> bool:
    """Whether a name is an identifier that contains a known name of a text column.

    >>> text_like("headline_en"), text_like("clean_text"), text_like("review"), text_like("a review")
    (True, True, False, False)
    """
    return "_" in name and name.isidentifier() and any(map(known_text, name.split("_")))


def known_name(name: str) -> bool:
    """Whether a name is a known name of a text, id or date column."""
    return _key(name) in {*TEXT_NAMES, *ID_NAMES, *DATE_NAMES}


def known_label(name: str) -> bool:
    """Whether a name is a known name of a label column."""
    return _key(name) in LABEL_NAMES


def choose_columns(
    path: Path, names: Sequence[str] | None, sample: Sequence[Sequence[str]], request: ColumnRequest
) -> Columns:
    """Choose the text, id, date and label columns.

    Args:
        path: The file, for error messages.
        names: The names of the columns, or None for a file without a header.
        sample: Some rows, all of the same width.
        request: The columns that the user requested.

    Raises:
        SourceError: A requested column does not exist, its name is not unique, or the choice is ambiguous.
    """
    width = len(names) if names is not None else len(sample[0])
    titles = [f"column {i + 1}" for i in range(width)] if names is None else list(names)
    table = _Table(path, titles, [[row[i].strip() for row in sample] for i in range(width)])
    item_id = None if request.item_id is None else table.requested(request.item_id, "--id-column")
    label = table.requested(request.label, "--label-column") if request.label else None
    texts = list(dict.fromkeys(table.requested(name, "--text-column") for name in request.text))
    text, more_texts = (texts[0], tuple(texts[1:])) if texts else (None, ())
    for position, role, option in ((item_id, "id", "--id-column"), (label, "label", "--label-column")):
        if position is not None and position in (text, *more_texts):
            message = f"Column {titles[position]!r} of {path} cannot be both the text and the {role}."
            raise SourceError(message, hint=f"Name two different columns with --text-column and {option}.")
    if item_id is not None and table.is_empty(item_id):
        message = f"The id column {titles[item_id]!r} of {path} is empty."
        raise SourceError(message, hint="Name another column, or omit --id-column to have ids generated.")
    used = {text, *more_texts, item_id, label}
    date = table.known(DATE_NAMES, used)
    if text is None:
        text = table.known_text(used)
    notes = []
    if item_id is None:
        item_id = table.known(ID_NAMES, {text, *more_texts, label})
        if item_id is not None and table.is_empty(item_id):
            notes.append(f"The id column {titles[item_id]!r} is empty and is not used.")
            item_id = None
        elif item_id is not None:
            table.require_unique(item_id, "--id-column")
    if text is None:
        text = table.longest({item_id, date, label})
        if item_id is None and not notes:
            item_id = table.identifying({text, date, label})
    if request.label is not None and label is None:
        label = table.label({text, item_id, date})
    date = None if date in {text, item_id, label} else date
    columns = Columns(text, item_id, date, label, tuple(notes), more_texts)
    return replace(columns, context=table.context(request.context, {*columns.texts, item_id, label}))


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names that are not empty and, ignoring case, unique, as a table requires.

    >>> unique_names(["id", "Text", "", "text", "text"])
    ['id', 'Text', 'column 3', 'text_2', 'text_3']
    """
    titles = [name.strip() or f"column {i + 1}" for i, name in enumerate(names)]
    originals = {title.casefold() for title in titles}
    used: set[str] = set()
    unique = []
    for title in titles:
        name, number = title, 1
        while name.casefold() in used or (number > 1 and name.casefold() in originals):
            number += 1
            name = f"{title}_{number}"
        used.add(name.casefold())
        unique.append(name)
    return unique


def layout_of(
    form: Layout, columns: Columns, names: Sequence[str] | None, sample: Sequence[Sequence[str]], path: Path
) -> Layout:
    """Complete a layout with its columns: used and unused ones, the probable labels, and three sample rows."""
    width = len(names) if names is not None else len(sample[0]) if sample else 0
    titles = [f"column {i + 1}" for i in range(width)] if names is None else [name.strip() for name in names]
    roles = {"id": columns.item_id, "text": columns.text, "date": columns.date, "label": columns.label}
    used = {role: position for role, position in roles.items() if position is not None}
    unused = [i for i in range(width) if i not in columns.used]
    label = columns.label
    if label is None:
        table = _Table(path, titles, [[row[i].strip() for row in sample] for i in range(width)])
        label = next(iter(table.label_candidates({*columns.texts, columns.item_id, columns.date})), None)
    return replace(
        form,
        columns={role: titles[position] for role, position in used.items()},
        described=described(columns, names, sample),
        unused=[titles[i] for i in unused if titles[i]],
        kept=list(columns.context),
        label_column="" if label is None else titles[label],
        notes=[*form.notes, *columns.notes],
        sample=[
            {role: shortened(row[position]) for role, position in used.items()}
            | {"text": shortened(" ".join(row[position] for position in columns.texts))}
            for row in sample[:3]
        ],
    )


def described(columns: Columns, names: Sequence[str] | None, sample: Sequence[Sequence[str]]) -> str:
    """Describe the columns, such as `text 'headline', id column 1, no date`, and say if no date can be parsed."""

    def describe(role: str, position: int | None) -> str:
        if position is None:
            return f"no {role}"
        return f"{role} column {position + 1}" if names is None else f"{role} {names[position].strip()!r}"

    roles = [("id", columns.item_id), ("date", columns.date)]
    if columns.label is not None:
        roles.insert(0, ("label", columns.label))
    texts = " + ".join(describe("text", at).removeprefix("" if at == columns.text else "text ") for at in columns.texts)
    description = ", ".join([texts, *(describe(role, position) for role, position in roles)])
    dates = [] if columns.date is None else [row[columns.date].strip() for row in sample]
    example = next(filter(None, dates), None)
    if example is None or any(map(parse_date, dates)):
        return description
    return f"{description}, ignored because dates such as {shortened(example)!r} cannot be parsed"


def find_name(names: Sequence[str], requested: str) -> int | None:
    """Return the position of the named column: an exact match, or one that ignores case, spaces and `_`."""
    for normalize in (str.strip, _key):
        for position, name in enumerate(names):
            if normalize(name) == normalize(requested) != "":
                return position
    return None


@dataclass(frozen=True)
class _Table:
    """The columns of a file: titles, and the stripped values of the sample rows by column."""

    path: Path
    titles: list[str]
    values: list[list[str]]

    def requested(self, request: str, option: str) -> int:
        """Return the position of the column whose name or number the user typed."""
        position = find_name(self.titles, request)
        if position is not None:
            self.require_unique(position, option)
            return position
        if request.strip().isdecimal() and 1 <= int(request) <= len(self.titles):
            return int(request) - 1
        nearest = get_close_matches(request, self.titles, n=1, cutoff=0.5)
        hint = f"Use {option} {_quoted(nearest[0])}." if nearest else self._option_hint(option)
        raise SourceError(f"{self.path} has no column {request!r}. Its columns: {_listed(self.titles)}.", hint=hint)

    def _option_hint(self, option: str) -> str:
        return f"Use {option} with a name or a number from 1 to {len(self.titles)}."

    def context(self, requested: Sequence[str] | None, excluded: set[int | None]) -> dict[str, int]:
        """Return the columns to keep, by name: the requested ones, or all nonempty ones that are not excluded."""
        names = unique_names(self.titles)
        if requested is None:
            positions = [
                i for i, title in enumerate(self.titles) if i not in excluded and (title.strip() or any(self.values[i]))
            ]
        else:
            positions = [self.requested(name, "--context") for name in requested]
        return {names[i]: i for i in positions}

    def require_unique(self, position: int, option: str) -> None:
        """Raise a `SourceError` if another column has the same name."""
        same = [i for i, title in enumerate(self.titles) if _key(title) == _key(self.titles[position])]
        if len(same) > 1:
            numbers = " and ".join(str(i + 1) for i in same)
            message = f"{self.path} has {len(same)} columns named {self.titles[position]!r}: columns {numbers}."
            hint = f"Use {option} {same[0] + 1} or {option} {same[1] + 1}, or rename one of the columns."
            raise SourceError(message, hint=hint)

    def is_empty(self, position: int) -> bool:
        """Whether all sample rows are empty in a column."""
        return bool(self.values[position]) and not any(self.values[position])

    def known(self, names: Sequence[str], excluded: set[int | None]) -> int | None:
        """Return the column with the most preferred of the known names; columns with values go first."""
        candidates = sorted(
            (self.is_empty(i), names.index(_key(title)), i)
            for i, title in enumerate(self.titles)
            if i not in excluded and _key(title) in names
        )
        return candidates[0][2] if candidates else None

    def known_text(self, excluded: set[int | None]) -> int | None:
        """Return the text column by its name. The name `text` wins over any other known name.

        Raises:
            SourceError: Two columns have other known names and texts in them.
        """
        best = self.known(TEXT_NAMES, excluded)
        if best is None:
            return None
        self.require_unique(best, "--text-column")
        if _key(self.titles[best]) == TEXT_NAMES[0] and not self.is_empty(best):
            return best
        prose = self._prose_columns(excluded)
        if self.is_empty(best) and prose:
            return None
        rivals = [i for i in prose if _key(self.titles[i]) in TEXT_NAMES and i != best]
        if rivals and best in prose:
            raise self._ambiguous_text([best, *rivals])
        return best

    def longest(self, excluded: set[int | None]) -> int:
        """Return the text column by its values: words if any column has them, by far the longest, not an id.

        Raises:
            SourceError: The choice is ambiguous.
        """
        columns = {i: values for i, values in enumerate(self.values) if i not in excluded}
        lettered = {i: values for i, values in columns.items() if _mostly(r"[^\W\d_]", values)}
        candidates = {i: values for i, values in lettered.items() if _mostly(r"\s", values)} or lettered
        lengths = {i: sum(map(len, values)) for i, values in candidates.items()}
        rivals = [i for i, length in lengths.items() if length >= 0.8 * max(lengths.values())]
        if len(rivals) > 1:
            rivals = [i for i in rivals if not _identifies(candidates[i])]
        if len(rivals) == 1:
            return rivals[0]
        raise self._ambiguous_text(rivals)

    def identifying(self, excluded: set[int | None]) -> int | None:
        """Return the first column whose values are distinct and contain no spaces."""
        return next((i for i, values in enumerate(self.values) if i not in excluded and _identifies(values)), None)

    def label_candidates(self, excluded: set[int | None]) -> list[int]:
        """Return the columns that may hold labels: the best known name, else all with few distinct values, by count."""
        named = self.known(LABEL_NAMES, excluded)
        if named is not None and not self.is_empty(named):
            return [named]
        few: dict[int, int] = {}
        for i, values in enumerate(self.values):
            filled = [value for value in values if value]
            n_labels = len({folded_label(value) for value in filled})
            if i not in excluded and 2 <= n_labels <= min(MAX_LABELS, max(2, len(filled) // 2), len(filled) - 1):
                few[i] = n_labels
        return sorted(few, key=lambda i: few[i])

    def label(self, excluded: set[int | None]) -> int:
        """Return the label column.

        Raises:
            SourceError: No column, or more than one, may hold the labels.
        """
        candidates = self.label_candidates(excluded)
        if len(candidates) == 1:
            self.require_unique(candidates[0], "--label-column")
            return candidates[0]
        titles = [self.titles[i] for i in candidates]
        message = f"Cannot tell which column of {self.path} holds the labels. Its columns: {_listed(self.titles)}."
        if candidates:
            hint = f"Use --label-column {_quoted(titles[0])}. Columns with few distinct values: {_listed(titles)}."
        else:
            message += f" None of them has 2 to {MAX_LABELS} distinct values."
            hint = self._option_hint("--label-column")
        raise SourceError(message, hint=hint)

    def _prose_columns(self, excluded: set[int | None]) -> list[int]:
        """Return the columns in which most values contain letters and most contain spaces."""
        return [
            i
            for i, values in enumerate(self.values)
            if i not in excluded and _mostly(r"[^\W\d_]", values) and _mostly(r"\s", values)
        ]

    def _ambiguous_text(self, rivals: Sequence[int]) -> SourceError:
        message = f"Cannot tell which column of {self.path} holds the texts. Its columns: {_listed(self.titles)}."
        if not rivals:
            return SourceError(message, hint=self._option_hint("--text-column"))
        names = [_quoted(self.titles[i]) if _key(self.titles[i]) else str(i + 1) for i in rivals]
        return SourceError(message, hint=f"Use --text-column {' or '.join(names)}.")


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
    names = ", ".join(repr(title) for title in titles[:20])
    return names if len(titles) <= 20 else f"{names} and {len(titles) - 20} more"


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"[^\w.-]", name) else name
