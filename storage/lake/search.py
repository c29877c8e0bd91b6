"""Full-text search in the lake: BM25 in a single SQL scan, so that there is no index to update."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.lake.context import among
from storage.lake.schema import UNAVAILABLE, current_labels
from storage.lake.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

K1, B = 1.2, 0.75
"""The usual constants of BM25: saturation of repetitions, and normalization for length."""

MOST_WORDS = 32
FREQUENT = 0.1
"""Words in more than this fraction of all texts are ignored if the query has others."""

SHORT = 4
"""Words with fewer letters match whole words only; longer words match as prefixes."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Scope:
    """The items to search: the pool, items with a label, or all items.

    Attributes:
        label: Search items with this current label instead of the pool.
        everything: Search all items.
        without: Items of the pool to exclude.
        where: Condition on the columns of the items.
    """

    label: str = ""
    everything: bool = False
    without: Sequence[str] = ()
    where: str = ""

    def condition(self) -> tuple[str, dict[str, Any]]:
        """An SQL condition on `item_id`, with its parameters."""
        if self.everything:
            return "true", {}
        if self.label:
            labelled = f"item_id IN (SELECT item_id FROM ({current_labels()}) WHERE label = $label)"
            return f"{labelled} AND {among(self.where)}", {"label": self.label}
        pool = f"item_id NOT IN ({UNAVAILABLE}) AND {among(self.where)}"
        if not self.without:
            return pool, {}
        return f"{pool} AND item_id NOT IN (SELECT unnest($without))", {"without": list(self.without)}


def query_words(query: str) -> list[str]:
    """The distinct words of a query, at most `MOST_WORDS`.

    >>> query_words("Card_arrival: when does my CARD arrive?")
    ['card', 'arrival', 'when', 'does', 'my', 'arrive']
    """
    return list(dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", query).lower())))[:MOST_WORDS]


def matching_words(store: Store, query: str, scope: Scope, n: int) -> list[tuple[str, float]]:
    """The n items that match a query best: (item_id, BM25 score), best first.

    Word frequencies are computed over all items. Matching ignores case. In scripts without case, most of which have no
    spaces or join words, a word matches anywhere.

    Source: Robertson and Zaragoza (2009), The Probabilistic Relevance Framework: BM25 and Beyond.
    """
    words = query_words(query)
    if not words:
        return []
    n_texts_with = [f"count(*) FILTER (contains(text, $word{k}))" for k in range(len(words))]
    total, mean, *frequencies = store.rows(
        f"""SELECT count(*), avg(strlen(text)), {", ".join(n_texts_with)}
        FROM (SELECT lower(text) AS text FROM lake.items)""",
        {f"word{k}": word for k, word in enumerate(words)},
    )[0]
    rare = [word for word, n_texts in zip(words, frequencies, strict=True) if n_texts <= FREQUENT * total]
    words = rare or words  # "the" and "in" would take most of the time without changing the ranking
    condition, parameters = scope.condition()
    parameters |= {f"word{k}": word for k, word in enumerate(words)}
    parameters |= {f"pattern{k}": _pattern(word) for k, word in enumerate(words)}
    numbers = range(len(words))
    counts = [
        f"CASE WHEN contains(text, $word{k}) THEN len(regexp_extract_all(text, $pattern{k})) ELSE 0 END AS n{k}"
        for k in numbers
    ]
    idf = [
        f"ln(1 + ({total} - count(*) FILTER (n{k} > 0) + 0.5) / (count(*) FILTER (n{k} > 0) + 0.5)) AS idf{k}"
        for k in numbers
    ]
    terms = [f"idf{k} * n{k} * {K1 + 1} / (n{k} + {K1} * ({1 - B} + {B} * size / {mean}))" for k in numbers]
    return store.rows(
        f"""WITH hits AS MATERIALIZED (
            SELECT item_id, strlen(text) AS size, {", ".join(counts)} FROM (
                SELECT item_id, lower(text) AS text FROM lake.items
            ) WHERE {" OR ".join(f"contains(text, $word{k})" for k in numbers)}
        ), weights AS (SELECT {", ".join(idf)} FROM hits)
        SELECT item_id, {" + ".join(terms)} AS score FROM hits, weights
        WHERE ({" OR ".join(f"n{k} > 0" for k in numbers)}) AND {condition}
        ORDER BY score DESC, item_id LIMIT {int(n)}""",
        parameters,
    )


def _pattern(word: str) -> str:
    """An RE2 regular expression that matches the word in lower-case text."""
    if any(unicodedata.category(letter) == "Lo" for letter in word):
        return word
    return rf"(?:^|[^\p{{L}}\p{{N}}]){word}" + (r"(?:$|[^\p{L}\p{N}])" if len(word) < SHORT else "")


def features_in(store: Store, encoder_id: str, scope: Scope) -> Iterator[pa.RecordBatch]:
    """The features of the items in a scope, in unordered slices (item_id, tokens)."""
    condition, parameters = scope.condition()
    sql = f"SELECT item_id, tokens FROM lake.features WHERE encoder_id = $encoder AND {condition}"
    return store.stream(sql, {"encoder": encoder_id, **parameters})
