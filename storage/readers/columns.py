"""Which column of a file is the text, which the id, which the date: asked for, known by name, or told by content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from storage.errors import SourceError
from storage.readers.dates import parse_date
from storage.readers.rows import shortened

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
# fmt: on


@dataclass(frozen=True)
class Columns:
    """Positions, from 0, of the columns that matter."""

    text: int
    item_id: int | None
    date: int | None


def known_text(name: str) -> bool:
    """Whether a name is known to head a column of texts, however it is spelled.

    >>> known_text("Headline Text"), known_text("nr")
    (True, False)
    """
    return _key(name) in TEXT_NAMES


def known_name(name: str) -> bool:
    """Whether a name is known to head a column of texts, ids or dates."""
    return _key(name) in {*TEXT_NAMES, *ID_NAMES, *DATE_NAMES}


def choose_columns(
    path: Path,
    names: Sequence[str] | None,
    sample: Sequence[Sequence[str]],
    text_column: str | None,
    id_column: str | None,
) -> Columns:
    """Find the text, id and date columns.

    Args:
        path: the file, for messages.
        names: the names of the columns, or None for a file without header.
        sample: some rows, each as wide as the file.
        text_column: name or number (from 1) the user asked for.
        id_column: the same for the id.

    Raises:
        SourceError: a column asked for is not there, or the column of texts cannot be told.
    """
    width = len(names) if names is not None else len(sample[0])
    titles = [f"column {i + 1}" for i in range(width)] if names is None else list(names)
    asked_id = None if id_column is None else _asked(path, titles, id_column, "--id-column")
    date = _first_known(titles, DATE_NAMES, {asked_id})
    if text_column is not None:
        text: int | None = _asked(path, titles, text_column, "--text-column")
        if asked_id is not None and text == asked_id:
            what = f"{titles[asked_id]} of {path} cannot be both the text and the id."
            raise SourceError(what, hint="name two columns with --text-column and --id-column.")
    else:
        text = _first_known(titles, TEXT_NAMES, {asked_id})
    taken = {text, asked_id}
    item_id = asked_id if asked_id is not None else _first_known(titles, ID_NAMES, taken)
    if text is None:
        text = _longest(path, titles, sample, {item_id, date})
        if item_id is None:
            item_id = _identifying(sample, {text, date})
    return Columns(text, item_id, None if date in {text, item_id} else date)


def described(columns: Columns, names: Sequence[str] | None, sample: Sequence[Sequence[str]]) -> str:
    """The columns in words: `text 'headline', id column 1, no date`; and whether its dates can be read."""

    def one(role: str, position: int | None) -> str:
        if position is None:
            return f"no {role}"
        return f"{role} column {position + 1}" if names is None else f"{role} {names[position].strip()!r}"

    said = ", ".join([one("text", columns.text), one("id", columns.item_id), one("date", columns.date)])
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


def _asked(path: Path, titles: list[str], wanted: str, option: str) -> int:
    position = find_name(titles, wanted)
    if position is not None:
        return position
    if wanted.strip().isdecimal() and 1 <= int(wanted) <= len(titles):
        return int(wanted) - 1
    nearest = get_close_matches(wanted, titles, n=1, cutoff=0.5)
    hint = f"{option} {_quoted(nearest[0])}" if nearest else f"{option} NAME, or its number, 1 to {len(titles)}."
    raise SourceError(f"{path} has no column {wanted!r}. Its columns: {_listed(titles)}.", hint=hint)


def _longest(path: Path, titles: list[str], sample: Sequence[Sequence[str]], taken: set[int | None]) -> int:
    """The column of texts by its values: words if there are any, by far the longest, not an id."""
    columns = {at: [row[at].strip() for row in sample] for at in range(len(titles)) if at not in taken}
    lettered = {at: values for at, values in columns.items() if _mostly(r"[^\W\d_]", values)}
    candidates = {at: values for at, values in lettered.items() if _mostly(r"\s", values)} or lettered
    lengths = {at: sum(map(len, values)) for at, values in candidates.items()}
    rivals = [at for at, length in lengths.items() if length >= 0.8 * max(lengths.values())]
    if len(rivals) > 1:
        rivals = [at for at in rivals if not _identifies(candidates[at])]
    if len(rivals) == 1:
        return rivals[0]
    what = f"Which column of {path} holds the texts cannot be told. Its columns: {_listed(titles)}."
    raise SourceError(what, hint=f"--text-column NAME, or its number, 1 to {len(titles)}.")


def _mostly(pattern: str, values: list[str]) -> bool:
    return 2 * sum(re.search(pattern, value) is not None for value in values) > len(values)


def _identifying(sample: Sequence[Sequence[str]], taken: set[int | None]) -> int | None:
    """The first column without spaces and with all values distinct."""
    for position in range(len(sample[0]) if sample else 0):
        if position not in taken and _identifies([row[position] for row in sample]):
            return position
    return None


def _identifies(values: list[str]) -> bool:
    values = [value.strip() for value in values]
    return len(set(values)) == len(values) and all(value and not re.search(r"\s", value) for value in values)


def _first_known(titles: list[str], known_names: Sequence[str], taken: set[int | None]) -> int | None:
    keys = [_key(title) for title in titles]
    for name in known_names:
        if name in keys and keys.index(name) not in taken:
            return keys.index(name)
    return None


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _listed(titles: Sequence[str]) -> str:
    shown = ", ".join(repr(title) for title in titles[:20])
    return shown if len(titles) <= 20 else f"{shown} and {len(titles) - 20} more"


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"[^\w.-]", name) else name
