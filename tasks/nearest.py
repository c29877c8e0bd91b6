"""The items nearest to a text in meaning: the highest cosine with its vector, by one pass over the features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.lake.search import Scope, features_in
from tasks.learning.tokens import Tokens
from tasks.prepare import add_missing_features, current_encoder
from tasks.project import Project
from tasks.sampling.pool_building import token_vectors


def nearest_items(project: Project, query: str, scope: Scope, n: int) -> list[tuple[str, float]]:
    """The n items whose vectors have the highest cosine with that of the query, (item_id, cosine)."""
    encoder = current_encoder(project.workspace, project.config.model.encoder, project.encoders)
    add_missing_features(project, encoder)
    of_query = token_vectors(encoder.tokenize(pa.array([query], pa.string())), encoder)
    direction = of_query.rows(np.zeros(1, np.int64))
    item_ids: list[pa.Array] = []
    cosines: list[npt.NDArray[np.float32]] = []
    for items in features_in(project.store, encoder.encoder_id, scope):
        item_ids.append(items.column("item_id"))
        cosines.append(of_query.of(Tokens.from_arrow(items.column("tokens"))).products(direction)[:, 0])
    if not item_ids:
        return []
    ids, scores = pa.concat_arrays(item_ids), np.concatenate(cosines)
    best = np.argpartition(-scores, n)[:n] if n < len(scores) else np.arange(len(scores))
    best = best[scores[best] > 0]
    pairs = zip(ids.take(pa.array(best)).to_pylist(), scores[best].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
