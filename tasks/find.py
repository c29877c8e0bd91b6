"""Search the items by words and by meaning, and take what was found out as a batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import BatchError, SamplingError
from storage.lake.batches import Draft, count_batches, reserve
from storage.lake.items import texts_of
from storage.lake.search import Scope, features_in, matching_words
from storage.records import Proposal, Split
from tasks.learning.tokens import Tokens
from tasks.plan import Plan, reserve_of
from tasks.prepare import add_missing_features, current_encoder
from tasks.project import Project
from tasks.sample import share_out
from tasks.sampling.pool_building import token_vectors

log = logging.getLogger(__name__)

By = Literal["both", "words", "meaning"]

FOUND = "find"
"""In place of a strategy: a person searched for the item. It is no random draw, and is never an evaluation item."""

DEPTH = 1_000
"""Items of each ranking that are fused."""

RRF = 60
"""The constant of reciprocal rank fusion."""


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        words: In the text, or near it in meaning.
        like: The id of an item; what is near it in meaning is found, and `words` do not count.
        by: What ranks the items: their words (BM25), their meaning (cosine of the encoder's vectors), or both.
    """

    words: str = ""
    like: str = ""
    by: By = "both"


@dataclass(frozen=True)
class Hit:
    """An item that was found; a higher score is a better match, and scores of different searches cannot be compared."""

    item_id: str
    text: str
    score: float


def find_items(project: Project, search: Search, scope: Scope, n: int) -> list[Hit]:
    """The n items that match best, the best first. Both rankings are fused by reciprocal rank.

    Raises:
        BatchError: There is no item `search.like`.

    Source: Cormack, Clarke and Buettcher (2009), Reciprocal Rank Fusion.
    """
    store, query = project.store, search.words
    if search.like:
        known = texts_of(store, [search.like])
        if not known:
            raise BatchError(f"There is no item {search.like!r}.", hint="Search for its words: pal find WORDS")
        query = known[search.like]
    depth, rankings = max(n + 1, DEPTH), []
    if search.by != "meaning" and not search.like:
        rankings.append(matching_words(store, query, scope, depth))
    if search.by != "words" or search.like:
        rankings.append(_nearest(project, query, scope, depth))
    best = [pair for pair in fused(rankings) if pair[0] != search.like][:n]
    texts = texts_of(store, [item_id for item_id, _ in best])
    return [Hit(item_id, texts[item_id], score) for item_id, score in best]


def fused(rankings: Sequence[Sequence[tuple[str, float]]]) -> list[tuple[str, float]]:
    """Rankings (item_id, score) as one, by the sum of 1 / (60 + rank); a single ranking stays as it is.

    >>> [item for item, _ in fused([[("a", 9.0), ("b", 8.0)], [("b", 0.7), ("c", 0.6)]])]
    ['b', 'a', 'c']
    """
    if len(rankings) == 1:
        return list(rankings[0])
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, (item_id, _) in enumerate(ranking, start=1):
            scores[item_id] = scores.get(item_id, 0.0) + 1 / (RRF + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def _nearest(project: Project, query: str, scope: Scope, n: int) -> list[tuple[str, float]]:
    """The n items whose vectors have the highest cosine with that of the query, (item_id, cosine)."""
    workspace = project.workspace
    encoder = current_encoder(workspace, project.config.model.encoder, project.encoders)
    add_missing_features(project, encoder)
    wanted = token_vectors(encoder.tokenize(pa.array([query], pa.string())), encoder)
    direction = wanted.rows(np.zeros(1, np.int64))
    item_ids: list[pa.Array] = []
    cosines: list[npt.NDArray[np.float32]] = []
    for items in features_in(project.store, encoder.encoder_id, scope):
        item_ids.append(items.column("item_id"))
        cosines.append(wanted.of(Tokens.from_arrow(items.column("tokens"))).products(direction)[:, 0])
    if not item_ids:
        return []
    ids, scores = pa.concat_arrays(item_ids), np.concatenate(cosines)
    best = np.argpartition(-scores, n)[:n] if n < len(scores) else np.arange(len(scores))
    best = best[scores[best] > 0]
    pairs = zip(ids.take(pa.array(best)).to_pylist(), scores[best].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def draw_found(project: Project, search: Search, plan: Plan, n: int) -> str:
    """Reserve the n best matches of the pool as a training batch; returns its id.

    They fulfill `[sampling] where`. The evaluation reserve is left out, so that evaluation items stay a random sample
    of all texts.

    Args:
        plan: Of the next batch: while a split has to be drawn at random from the whole pool, nothing may be taken out.

    Raises:
        SamplingError: Held-out items have to be drawn first, or nothing in the pool matches.
    """
    if plan.purpose is not Split.TRAINING:
        raise SamplingError(
            f"{plan.n} {plan.purpose} items have to be drawn at random before items are chosen by a search.",
            hint="Publish and answer these first: pal next",
        )
    store, batch = project.store, project.config.batch
    held_out, version = reserve_of(project), store.version()
    hits = find_items(project, search, Scope(without=held_out.item_ids, where=project.config.sampling.where), n)
    if not hits:
        raise SamplingError("Nothing in the pool matches.", hint="Search for other words, or use --by meaning.")
    chosen = [hit.item_id for hit in hits]
    draft = Draft(
        Split.TRAINING,
        chosen,
        [Proposal(hit.item_id, FOUND, hit.score, rank) for rank, hit in enumerate(hits, start=1)],
        project.config.model.seed,
        version,
        project.label_set.digest,
        mix={FOUND: len(hits)},
        shares=held_out.shares(0),
        overlap=batch.overlap,
        formats=batch.formats,
        assignments=share_out(store, chosen, batch, project.config.model.seed + count_batches(store)),
        reserve_below=held_out.below or None,
    )
    return reserve(store, draft, beside_open=True)[0].batch_id
