"""Lexical features: n-grams of token ids or of characters, hashed to buckets and weighted by TF-IDF.

What a mean of token vectors loses (rare words, word order, negation, scripts that the tokenizer does not cover), these
features keep. Nothing is stored for them: they are computed from the token ids or characters in slices of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.learning.tokens import Tokens

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy import sparse

    from tasks.learning.encoders import Pieces

BUCKET_BITS = 18
N_BUCKETS = 1 << BUCKET_BITS
"""On eight sets of texts 2^20 buckets were no better."""

WORD_ORDERS = (1, 2)
"""Token ids and pairs of them."""

CHARACTER_ORDERS = (1, 3, 5)
"""As good as all of 1 to 5 on eight sets of texts, at three fifths of the cost."""

ORDERS = {"words": WORD_ORDERS, "characters": CHARACTER_ORDERS}
"""Of each lexical family, where a model says nothing else."""

ORDERS_WITHOUT_SPACES = (1, 2, 3)
"""Of characters in a script without spaces: two of them are often a word there."""

FEW_SPACES = 0.05
"""Share of the characters; texts with fewer are of a script without spaces."""

SLICE_TEXTS = 8_192
SLICE_IDS = 1 << 19
"""A slice has at most so many ids, but for one longer text."""

SPACE = 32
FRAME = "  "
"""Between two texts: one space after the first, one before the second."""

_MULTIPLIER = np.uint32(0x9E3779B1)
_MIXER = np.uint32(0x85EBCA6B)
_TEXT_SHIFT = np.uint32(BUCKET_BITS + 1)  # rows count from 1, so there can be one more of them than buckets
_NUMBER_MASK = np.uint32(2 * N_BUCKETS - 1)

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Terms:
    """The different n-grams of n texts.

    Attributes:
        offsets: int64 (n + 1,); text k has the entries offsets[k] to offsets[k + 1].
        buckets: int32, ascending within a text; rows where `count_terms` was given a table of them.
        counts: float32, 1 + ln(number of occurrences in the text).
    """

    offsets: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int32]
    counts: Floats

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class WeightedTerms:
    """The different n-grams of n texts, weighted so that each text's squared weights add up to 1.

    Attributes:
        offsets: int64 (n + 1,).
        buckets: int32.
        weights: float32.
    """

    offsets: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int32]
    weights: Floats

    def matrix(self) -> sparse.csr_matrix:
        """As a sparse matrix, float32 (n, N_BUCKETS)."""
        from scipy import sparse

        shape = (len(self.offsets) - 1, N_BUCKETS)
        return sparse.csr_matrix((self.weights, self.buckets, self.offsets), shape)


@dataclass(frozen=True)
class Stream:
    """n texts as sequences of numbers: words or characters.

    Attributes:
        ids: uint32 (number of ids,), text after text.
        offsets: int64 (n + 1,).
    """

    ids: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def words_of(tokens: Tokens, pieces: Pieces) -> Stream:
    """The words of n texts, each word a hash of its tokens; punctuation and single letters are left out.

    >>> from tasks.learning.encoders import Pieces
    >>> pieces = Pieces(np.array([False, True, False]), np.array([False, False, True]))
    >>> words = words_of(Tokens(np.array([0, 1, 2, 0], np.uint16), np.array([0, 3, 4])), pieces)
    >>> words.offsets.tolist(), len(set(words.ids.tolist()))
    ([0, 1, 2], 2)
    """
    ids = tokens.ids
    begins = ~pieces.continues[ids]
    begins[tokens.offsets[:-1][tokens.lengths > 0]] = True
    n_begun = np.concatenate([[0], np.cumsum(begins)])
    firsts, others = np.flatnonzero(begins), np.flatnonzero(~begins)
    word = n_begun[others] - 1
    place = others - firsts[word]
    powers = np.cumprod(np.full(int(place.max(initial=0)) + 1, _MULTIPLIER, np.uint32), dtype=np.uint32)
    hashes = (ids[firsts] + np.uint32(1)) * _MULTIPLIER
    np.add.at(hashes, word, (ids[others] + np.uint32(1)) * powers[place])
    kept = ~pieces.left_out[ids[firsts]]
    kept[word] = True
    n_kept = np.concatenate([[0], np.cumsum(kept)])
    return Stream(hashes[kept], n_kept[n_begun[tokens.offsets]])


def characters_of(tokens: Tokens) -> Stream:
    """The characters that come with the tokens of n texts.

    Raises:
        ValueError: The tokens come without characters.
    """
    if tokens.characters is None:
        raise ValueError("This model reads characters, but the texts came without them.")
    return Stream(tokens.characters.ids.astype(np.uint32), tokens.characters.offsets)


def is_without_spaces(characters: Tokens) -> bool:
    """Whether texts, given as the numbers of their characters, are of a script that puts no spaces between words."""
    n_framing = 2 * len(characters)
    n_spaces = int(np.count_nonzero(characters.ids == SPACE)) - n_framing
    return n_spaces < FEW_SPACES * (len(characters.ids) - n_framing)


def orders_in(weights: Mapping[str, Any], family: str) -> tuple[int, ...]:
    """Lengths of a lexical family's n-grams in a model's saved weights, which older models do not say."""
    saved = weights.get(f"{family}.orders")
    return ORDERS[family] if saved is None else tuple(saved.tolist())


def slices_of(stream: Stream) -> Iterator[tuple[int, int]]:
    """First and last + 1 text of slices that fit into the processor's cache."""
    start, n = 0, len(stream)
    while start < n:
        most = int(np.searchsorted(stream.offsets, stream.offsets[start] + SLICE_IDS, side="right")) - 1
        stop = min(n, start + SLICE_TEXTS, max(start + 1, most))
        yield start, stop
        start = stop


def count_terms(stream: Stream, orders: Sequence[int], row_of: Rows | None = None) -> Terms:
    """The different n-grams of each text of a stream of ids.

    Args:
        stream: Words or characters of n texts.
        orders: Lengths of the n-grams.
        row_of: Row of each bucket, from 1 on, to have in place of it; n-grams whose bucket has row 0 are left out.

    >>> words = Stream(np.array([7, 8, 7, 9], np.uint32), np.array([0, 3, 4]))
    >>> terms = count_terms(words, (1, 2))
    >>> terms.offsets.tolist(), sorted(terms.counts.round(2).tolist())
    ([0, 4, 5], [1.0, 1.0, 1.0, 1.0, 1.690000057220459])
    """
    parts = [_terms_of_slice(_part(stream, start, stop), orders, row_of) for start, stop in slices_of(stream)]
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(len(part.buckets) for part in parts)])
    offsets = [part.offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
    return Terms(
        np.concatenate([np.zeros(1, np.int64), *offsets]),
        np.concatenate([np.zeros(0, np.int32), *(part.buckets for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.counts for part in parts)]),
    )


def _part(stream: Stream, start: int, stop: int) -> Stream:
    offsets = stream.offsets[start : stop + 1]
    return Stream(stream.ids[offsets[0] : offsets[-1]], offsets - offsets[0])


def _terms_of_slice(stream: Stream, orders: Sequence[int], row_of: Rows | None) -> Terms:
    """The terms of at most SLICE_TEXTS texts: text number and bucket or row share a uint32, sorted together."""
    ids = stream.ids
    text = np.repeat(np.arange(len(stream), dtype=np.uint32) << _TEXT_SHIFT, np.diff(stream.offsets))
    rolling, keys, ends = ids, [np.zeros(0, np.uint32)], stream.offsets[1:-1]
    for order in range(1, min(max(orders), len(ids)) + 1):
        if order > 1:
            rolling = rolling[:-1] * _MULTIPLIER
            rolling += ids[order - 1 :]
        if order in orders:
            numbers = _buckets(rolling, order)
            if row_of is not None:
                numbers = row_of.take(numbers.view(np.int32), mode="clip").view(np.uint32)
            kept = np.ones(len(numbers), np.bool_) if row_of is None else numbers > 0
            for ahead in range(1, order):  # an n-gram does not reach into the next text
                begins = ends - ahead
                kept[begins[(begins >= 0) & (begins < len(kept))]] = False
            numbers |= text[: len(numbers)]
            keys.append(numbers[kept])
    terms, counts = _counted(np.concatenate(keys))
    return Terms(
        np.searchsorted(terms >> _TEXT_SHIFT, np.arange(len(stream) + 1, dtype=np.uint32)),
        (terms & _NUMBER_MASK).view(np.int32),
        1 + np.log(counts),
    )


def _buckets(rolling: npt.NDArray[np.uint32], order: int) -> npt.NDArray[np.uint32]:
    mixed = (rolling + np.uint32(order)) * _MULTIPLIER
    mixed ^= mixed >> np.uint32(15)
    mixed *= _MIXER
    mixed >>= np.uint32(32 - BUCKET_BITS)
    return mixed


def _counted(keys: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], Floats]:
    """The different ones, ascending, and how often each occurs; sorts `keys`."""
    keys.sort()
    is_first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    counts = np.empty(len(firsts), np.float32)
    np.subtract(firsts[1:], firsts[:-1], out=counts[:-1], casting="unsafe")
    counts[-1:] = len(keys) - firsts[-1:]
    return keys[firsts], counts


def document_frequencies(terms: Terms) -> npt.NDArray[np.int64]:
    """In how many texts each bucket occurs, (N_BUCKETS,)."""
    return np.bincount(terms.buckets, minlength=N_BUCKETS)


def inverse_document_frequencies(terms: Terms) -> Floats:
    """ln((1 + n) / (1 + document frequency)) + 1 of each bucket, (N_BUCKETS,); 0 for one that no text has."""
    frequencies = document_frequencies(terms)
    idf = np.log((1 + len(terms)) / (1 + frequencies)) + 1
    return np.where(frequencies > 0, idf, 0).astype(np.float32)


def weighted(terms: Terms, idf: Floats) -> WeightedTerms:
    """Terms weighted by count and inverse document frequency, each text scaled to length 1, or 0 without known terms.

    Args:
        idf: Of each bucket, (N_BUCKETS,); 0 for one that is not known.
    """
    weights, norms = weights_and_norms(terms, idf)
    scaled = weights / np.repeat(norms, np.diff(terms.offsets))
    return WeightedTerms(terms.offsets, terms.buckets, scaled.astype(np.float32, copy=False))


def weights_and_norms(terms: Terms, idf: Floats) -> tuple[Floats, Floats]:
    """Count times inverse document frequency of each term, and its length for each of n texts, (n,); 1 in place of 0.

    Args:
        idf: Of each bucket, or of each row where the terms have rows.
    """
    weights = terms.counts * idf.take(terms.buckets, mode="clip")
    norms = np.ones(len(terms), np.float32)
    filled = np.diff(terms.offsets) > 0
    if filled.any():
        squares = np.add.reduceat(np.square(weights), terms.offsets[:-1][filled])
        norms[filled] = np.where(squares > 0, np.sqrt(squares), 1)
    return weights, norms


class CharacterCodes:
    """Texts as numbers of characters: case, width and kind of white space folded; a space before and after each text.

    A character beyond the first 65,536 shares the number of another. The numbers are Unicode's, the same on every
    machine.
    """

    def __init__(self) -> None:
        import unicodedata

        codes = np.arange(1 << 16, dtype=np.uint16)
        for code in range(1 << 16):
            character = chr(code)
            if 0xD800 <= code < 0xE000:
                continue
            lower = unicodedata.normalize("NFKC", character).lower()
            if character.isspace():
                codes[code] = SPACE
            elif len(lower) == 1:
                codes[code] = ord(lower) & 0xFFFF
        self._folded = codes

    def of(self, texts: pa.Array) -> Tokens:
        """The numbers of a string array (n,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
        listed = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        return self._framed(str(pc.binary_join(listed, FRAME)[0].as_py()), lengths)

    def of_few(self, texts: Sequence[str]) -> Tokens:
        """The same numbers, of texts so few that Arrow would take longer to import."""
        return self._framed(FRAME.join(texts), np.array([len(text) for text in texts], np.int64))

    def _framed(self, joined: str, lengths: npt.NDArray[np.int64]) -> Tokens:
        """Texts that are joined by two spaces: the last of one text and the first of the next."""
        wide = np.frombuffer(f" {joined} ".encode("utf-32-le", "surrogatepass"), np.uint32)
        narrow = wide.astype(np.uint16)
        beyond = np.flatnonzero(wide >> np.uint32(16))
        narrow[beyond] ^= ((wide[beyond] >> np.uint32(16)) * np.uint32(0x9E37)).astype(np.uint16)
        offsets = np.concatenate([[0], np.cumsum(lengths + 2)])
        return Tokens(self._folded[narrow[: offsets[-1]]], offsets)


def stream_of(family: str, tokens: Tokens, pieces: Pieces) -> Stream:
    """Texts as a lexical family reads them, "words" or "characters"."""
    return words_of(tokens, pieces) if family == "words" else characters_of(tokens)


def rows_by_bucket(buckets: npt.NDArray[Any]) -> Rows:
    """Row of each of m buckets, 1 to m, as an array (N_BUCKETS,); 0 for all others."""
    table = np.zeros(N_BUCKETS, np.int32)
    table[buckets] = np.arange(1, len(buckets) + 1)
    return table
