"""Vectors of many texts, stored as token ids, so that a million texts fit into less than a gigabyte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.learning.tokens import Tokens, TokenSource

if TYPE_CHECKING:
    from tasks.learning.network import Network

SLICE_TEXTS = 8_192
"""Texts per slice. With 256 numbers each they fit into the cache of the processor; 32,768 take three times as long."""

BLOCK_SLICES = 16
"""Slices per block of a sum. Blocks are added in order, so that sums computed from whole blocks are reproducible."""

Matrix = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Reduce = Callable[[Matrix], tuple[npt.NDArray[Any], ...]]
"""A function from the products (m, k) of m texts with k directions to arrays of m rows."""


class Vectors(Protocol):
    """n vectors of size `width`, one per text. For all texts, use products and sums; rows are for a few.

    Attributes:
        tokens: The n texts.
        width: Size of a vector.
        squared_norms: Product of each vector with itself, (n,).
    """

    @property
    def tokens(self) -> TokenSource: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def squared_norms(self) -> npt.NDArray[np.float32]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def products(self, directions: Matrix) -> Matrix:
        """Dot products (n, k) with k directions (k, width); cosines if both have unit length."""
        ...

    def reduced(self, directions: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions, slice by slice; returns arrays of n rows.

        The array (n, k) is never in memory at once. `reduce` must be picklable (a function of a module, or
        `functools.partial` of one), since it is sent to other machines if the texts are there.
        """
        ...

    def rows(self, positions: Numbers) -> Matrix:
        """The vectors at m positions, (m, width); for a few texts."""
        ...

    def sums(self, groups: Numbers, n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width); `groups` (n,) are 0 to n_groups - 1, below 0 is none."""
        ...

    def take(self, positions: Numbers) -> Vectors:
        """The vectors at `positions`, in that order."""
        ...

    def slice(self, start: int, stop: int) -> Vectors:
        """Vectors start to stop."""
        ...

    def of(self, tokens: Tokens) -> Vectors:
        """Other texts in the same space."""
        ...

    def kept(self) -> Vectors:
        """The same vectors, as rows in memory if that speeds up products; for up to 100,000 texts used often."""
        ...


class SummedVectors(Vectors, Protocol):
    """Vectors whose products and sums can be computed in parts, on several machines, with the same result."""

    @property
    def tokens(self) -> Tokens: ...  # noqa: D102

    def prepared(self, directions: Matrix) -> Matrix:
        """Prepare k directions for `reduced_by`, (any, k)."""
        ...

    def reduced_by(self, prepared: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Like `reduced`, with directions that were prepared by `prepared` on this or another machine."""
        ...

    def partial_sums(self, groups: Numbers, n_groups: int) -> list[npt.NDArray[Any]]:
        """The terms that `total` adds up: an array for each block of texts."""
        ...

    def total(self, partial_sums: Sequence[npt.NDArray[Any]], n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width), from the arrays of the blocks, in order."""
        ...

    def take(self, positions: Numbers) -> SummedVectors:
        """The vectors at `positions`, in that order."""
        ...

    def of(self, tokens: Tokens) -> SummedVectors:
        """Other texts in the same space."""
        ...


class TokenVectors:
    """A text is the sum of its tokens' vectors, scaled to length 1; without known tokens it is 0.

    Linear up to the scaling, so a product with k directions is a look-up of k numbers per token.

    Args:
        tokens: n texts.
        n_tokens: Size of the encoder's vocabulary.
        table: Token vectors (n_tokens, width); None for word counts, where each token is a dimension, so that texts
            without a common token have product 0.
        norms: Lengths of the unscaled sums, (n,), if they are known.
    """

    def __init__(
        self, tokens: Tokens, n_tokens: int, table: Matrix | None, norms: npt.NDArray[np.float32] | None = None
    ) -> None:
        self.n_tokens = n_tokens
        self._tokens, self._table, self._norms = tokens, table, norms

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def tokens(self) -> Tokens:
        """The n texts."""
        return self._tokens

    @property
    def width(self) -> int:
        """Size of a vector."""
        return self.n_tokens if self._table is None else int(self._table.shape[1])

    @property
    def norms(self) -> npt.NDArray[np.float32]:
        """Length of each unscaled sum, (n,), infinite instead of 0; computed once, in a pass over all dimensions."""
        if self._norms is None:
            norms = np.empty(len(self), np.float32)
            for start, stop in _slices(len(self)):
                part = self._tokens.slice(start, stop)
                norms[start:stop] = _count_norms(part) if self._table is None else _sum_norms(part, self._table)
            norms[norms == 0] = np.inf
            self._norms = norms
        return self._norms

    @property
    def squared_norms(self) -> npt.NDArray[np.float32]:
        """1, or 0 for a text without known tokens, (n,)."""
        return np.isfinite(self.norms).astype(np.float32)

    def products(self, directions: Matrix) -> Matrix:
        """Dot products (n, k) with k directions (k, width)."""
        return whole_products(self, directions)

    def reduced(self, directions: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions."""
        return self.reduced_by(self.prepared(directions), reduce)

    def prepared(self, directions: Matrix) -> Matrix:
        """Products of each token's vector with k directions, (n_tokens, k)."""
        turned = np.array(directions.T, np.float32, order="C")
        return turned if self._table is None else _product(self._table, turned)

    def reduced_by(self, prepared: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions, given as their products with each token."""
        norms = self.norms

        def products(start: int, stop: int) -> Matrix:
            sums = _sum_by_text(self._tokens.slice(start, stop), prepared)
            sums /= norms[start:stop, None]
            return sums

        return _slice_by_slice(len(self), prepared.shape[1], products, reduce)

    def rows(self, positions: Numbers) -> Matrix:
        """The vectors at m positions, (m, width)."""
        chosen = self._tokens.take(positions)
        if self._table is None:
            sums = np.zeros((len(positions), self.width), np.float32)
            np.add.at(sums, (np.repeat(np.arange(len(positions)), chosen.lengths), chosen.ids), 1)
        else:
            sums = _sum_by_text(chosen, self._table)
        scaled: Matrix = sums / self.norms[positions][:, None]
        return scaled

    def sums(self, groups: Numbers, n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width)."""
        return self.total(self.partial_sums(groups, n_groups), n_groups)

    def partial_sums(self, groups: Numbers, n_groups: int) -> list[npt.NDArray[Any]]:
        """Count each token per group, weighted by 1 / norm of the text: float64 (n_groups * n_tokens,) per block."""
        blocks: list[npt.NDArray[Any]] = []
        for number, (start, stop) in enumerate(_slices(len(self))):
            if number % BLOCK_SLICES == 0:
                blocks.append(np.zeros(n_groups * self.n_tokens))
            part, inside = self._tokens.slice(start, stop), groups[start:stop] >= 0
            if not inside.all():
                part = part.take(np.flatnonzero(inside))
            weights = np.repeat(1 / self.norms[start:stop][inside].astype(np.float64), part.lengths)
            of_token = np.repeat(groups[start:stop][inside] * self.n_tokens, part.lengths)
            np.add.at(blocks[-1], of_token + part.ids, weights)
        return blocks

    def total(self, partial_sums: Sequence[npt.NDArray[Any]], n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width)."""
        flat = np.zeros(n_groups * self.n_tokens)
        for block in partial_sums:
            flat += block
        weighted = flat.reshape(n_groups, self.n_tokens).astype(np.float32)
        sums: Matrix = weighted if self._table is None else _product(weighted, self._table)
        return sums

    def take(self, positions: Numbers) -> TokenVectors:
        """The vectors at `positions`, in that order."""
        norms = None if self._norms is None else self._norms[positions]
        return TokenVectors(self._tokens.take(positions), self.n_tokens, self._table, norms)

    def slice(self, start: int, stop: int) -> TokenVectors:
        """Vectors start to stop."""
        norms = None if self._norms is None else self._norms[start:stop]
        return TokenVectors(self._tokens.slice(start, stop), self.n_tokens, self._table, norms)

    def of(self, tokens: Tokens) -> TokenVectors:
        """Other texts in the same space."""
        return TokenVectors(tokens, self.n_tokens, self._table)

    def kept(self) -> Vectors:
        """As rows; word counts are unchanged, since they have too many dimensions."""
        return self if self._table is None else RowVectors(self)


class NetworkVectors:
    """The last representation before a classifier's head, computed slice by slice on every access."""

    def __init__(self, tokens: Tokens, classifier: Network) -> None:
        self._tokens, self._classifier = tokens, classifier.eval()

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def tokens(self) -> Tokens:
        """The n texts."""
        return self._tokens

    @property
    def width(self) -> int:
        """Size of a vector."""
        return int(self._classifier.head.in_features)

    @property
    def squared_norms(self) -> npt.NDArray[np.float32]:
        """Product of each vector with itself, (n,)."""
        norms = np.empty(len(self), np.float32)
        for start, stop, rows in self._parts():
            norms[start:stop] = np.square(rows).sum(axis=1)
        return norms

    def products(self, directions: Matrix) -> Matrix:
        """Dot products (n, k) with k directions (k, width)."""
        return whole_products(self, directions)

    def reduced(self, directions: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions."""
        return self.reduced_by(self.prepared(directions), reduce)

    def prepared(self, directions: Matrix) -> Matrix:
        """The directions as columns, (width, k)."""
        return directions.T

    def reduced_by(self, prepared: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions, given as columns."""

        def products(start: int, stop: int) -> Matrix:
            sums: Matrix = self._represented(self._tokens.slice(start, stop)) @ prepared
            return sums

        return _slice_by_slice(len(self), prepared.shape[1], products, reduce)

    def rows(self, positions: Numbers) -> Matrix:
        """The vectors at m positions, (m, width)."""
        return self._represented(self._tokens.take(positions))

    def sums(self, groups: Numbers, n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width)."""
        return self.total(self.partial_sums(groups, n_groups), n_groups)

    def partial_sums(self, groups: Numbers, n_groups: int) -> list[npt.NDArray[Any]]:
        """Sum of the vectors of each group, float32 (n_groups, width) per block."""
        blocks: list[npt.NDArray[Any]] = []
        for number, (start, stop, rows) in enumerate(self._parts()):
            if number % BLOCK_SLICES == 0:
                blocks.append(np.zeros((n_groups, self.width), np.float32))
            blocks[-1] += _sum_by_group(rows, groups[start:stop], n_groups)
        return blocks

    def total(self, partial_sums: Sequence[npt.NDArray[Any]], n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width)."""
        sums = np.zeros((n_groups, self.width), np.float32)
        for block in partial_sums:
            sums += block
        return sums

    def take(self, positions: Numbers) -> NetworkVectors:
        """The vectors at `positions`, in that order."""
        return NetworkVectors(self._tokens.take(positions), self._classifier)

    def slice(self, start: int, stop: int) -> NetworkVectors:
        """Vectors start to stop."""
        return NetworkVectors(self._tokens.slice(start, stop), self._classifier)

    def of(self, tokens: Tokens) -> NetworkVectors:
        """Other texts in the same space."""
        return NetworkVectors(tokens, self._classifier)

    def kept(self) -> Vectors:
        """As rows."""
        return RowVectors(self)

    def _parts(self) -> Iterator[tuple[int, int, Matrix]]:
        for start, stop in _slices(len(self)):
            yield start, stop, self._represented(self._tokens.slice(start, stop))

    def _represented(self, tokens: Tokens) -> Matrix:
        import torch

        with torch.inference_mode():
            rows: Matrix = self._classifier.represent(tokens).numpy()
        return rows


class RowVectors:
    """Other vectors as one array (n, width) in memory.

    Args:
        origin: The vectors.
        rows: The array, if it exists already.
    """

    def __init__(self, origin: Vectors, rows: Matrix | None = None) -> None:
        self._origin = origin
        self._rows = origin.rows(np.arange(len(origin))) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def tokens(self) -> TokenSource:
        """The n texts."""
        return self._origin.tokens

    @property
    def width(self) -> int:
        """Size of a vector."""
        return self._origin.width

    @property
    def squared_norms(self) -> npt.NDArray[np.float32]:
        """Product of each vector with itself, (n,)."""
        norms: npt.NDArray[np.float32] = np.einsum("ij,ij->i", self._rows, self._rows)
        return norms

    def products(self, directions: Matrix) -> Matrix:
        """Dot products (n, k) with k directions (k, width)."""
        return _product(self._rows, np.array(directions.T, np.float32, order="C"))

    def reduced(self, directions: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions."""
        turned = np.array(directions.T, np.float32, order="C")
        return _slice_by_slice(
            len(self), turned.shape[1], lambda start, stop: _product(self._rows[start:stop], turned), reduce
        )

    def rows(self, positions: Numbers) -> Matrix:
        """The vectors at m positions, (m, width)."""
        return self._rows[positions]

    def sums(self, groups: Numbers, n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width)."""
        return _sum_by_group(self._rows, groups, n_groups)

    def take(self, positions: Numbers) -> RowVectors:
        """The vectors at `positions`, in that order."""
        return RowVectors(self._origin.take(positions), self._rows[positions])

    def slice(self, start: int, stop: int) -> RowVectors:
        """Vectors start to stop."""
        return RowVectors(self._origin.slice(start, stop), self._rows[start:stop])

    def of(self, tokens: Tokens) -> Vectors:
        """Other texts in the same space."""
        return self._origin.of(tokens)

    def kept(self) -> Vectors:
        """Itself."""
        return self


def unit(rows: Matrix) -> Matrix:
    """Rows (m, width) scaled to length 1; rows of 0 stay.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norms: Matrix = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    norms[norms == 0] = 1
    return rows / norms


def whole_products(vectors: Vectors, directions: Matrix) -> Matrix:
    """Dot products (n, k) with k directions (k, width), computed by `reduced`."""
    (products,) = vectors.reduced(directions, unreduced)
    return products


def unreduced(products: Matrix) -> tuple[Matrix]:
    """The products themselves."""
    return (products,)


def _slice_by_slice(
    n: int, k: int, products: Callable[[int, int], Matrix], reduce: Reduce
) -> tuple[npt.NDArray[Any], ...]:
    """Apply `reduce` to products(start, stop) of each slice; returns arrays of n rows."""
    wholes = tuple(np.empty((n, *empty.shape[1:]), empty.dtype) for empty in reduce(np.zeros((0, k), np.float32)))
    for start, stop in _slices(n):
        for whole, part in zip(wholes, reduce(products(start, stop)), strict=True):
            whole[start:stop] = part
    return wholes


def _slices(n: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, SLICE_TEXTS):
        yield start, min(start + SLICE_TEXTS, n)


def _product(left: Matrix, right: Matrix) -> Matrix:
    """Multiply (m, k) by (k, p) in the thread pool of the look-ups; two thread pools would wait for each other."""
    import torch  # slow to import, and not needed by commands that only inspect a workspace

    with torch.inference_mode():
        product: Matrix = (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()
    return product


def _sum_by_group(rows: Matrix, groups: Numbers, n_groups: int) -> Matrix:
    """Sum of the rows (n, width) of each group, (n_groups, width)."""
    import torch

    inside = groups >= 0
    if not inside.all():
        rows, groups = rows[inside], groups[inside]
    sums: Matrix = (
        torch.zeros((n_groups, rows.shape[1]))
        .index_add_(0, torch.from_numpy(groups.astype(np.int64)), torch.from_numpy(rows))
        .numpy()
    )
    return sums


def _sum_by_text(tokens: Tokens, per_token: Matrix) -> Matrix:
    """Sum of the rows of (n_tokens, k) of the tokens of each text, (n, k)."""
    import torch
    from torch.nn import functional

    ids, starts = tokens.tensors()
    with torch.inference_mode():
        sums: Matrix = functional.embedding_bag(ids, torch.from_numpy(per_token), starts, mode="sum").numpy()
    return sums


def _sum_norms(tokens: Tokens, table: Matrix) -> npt.NDArray[np.float32]:
    import torch

    norms: npt.NDArray[np.float32] = torch.linalg.vector_norm(
        torch.from_numpy(_sum_by_text(tokens, table)), dim=1
    ).numpy()
    return norms


def _count_norms(tokens: Tokens) -> npt.NDArray[np.float32]:
    """Length of each text's vector of token counts, (n,)."""
    text = np.repeat(np.arange(len(tokens)), tokens.lengths)
    pairs, counts = np.unique(text * 65_536 + tokens.ids, return_counts=True)
    squares = np.bincount(pairs >> 16, counts.astype(np.float64) ** 2, len(tokens))
    return np.sqrt(squares).astype(np.float32)
