"""Preview the items that a strategy would query, and why."""

from __future__ import annotations

from dataclasses import dataclass

from storage.lake.models import production_model
from tasks.project import Project


@dataclass(frozen=True)
class Previewed:
    """An item that a strategy would query: its rank, its score (None if it has none), and the reason."""

    rank: int
    item_id: str
    text: str
    score: float | None
    reason: str


def preview(project: Project, name: str, n: int, seed: int | None) -> list[Previewed]:
    """The n items that a strategy would query now, with the production model if there is one.

    Raises:
        SamplingError: The strategy does not exist or cannot run now, or the pool is smaller.
    """
    import numpy as np

    from storage.lake.annotations import labelled_texts
    from storage.lake.items import texts_of
    from storage.records import Split
    from tasks.plan import reserve_of
    from tasks.prepare import open_model
    from tasks.sample import load_pool
    from tasks.sampling.mixer import find_strategy, reasons

    config, workspace, strategy = project.config, project.workspace, find_strategy(name)
    store = workspace.store()
    version, model = store.version(), production_model(store)
    loaded = open_model(project, model.model_id) if model else None
    pool = load_pool(project, version, loaded, reserve=reserve_of(project))
    generator = np.random.default_rng([config.model.seed if seed is None else seed, *name.encode()])
    ranking = strategy.propose(pool, n, generator, **config.sampling.options.get(name, {}))
    training = labelled_texts(store, Split.TRAINING, version).to_pylist()
    known = [row["text"] for row in training if row["label"] in project.label_set.names]
    texts = texts_of(store, ranking.item_ids)
    return [
        Previewed(rank, item_id, texts[item_id], float(score) if np.isfinite(score) else None, reason)
        for rank, (item_id, score, reason) in enumerate(
            zip(
                ranking.item_ids,
                ranking.scores,
                reasons(pool, ranking, project.label_set.names, known),
                strict=True,
            ),
            start=1,
        )
    ]
