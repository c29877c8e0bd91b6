"""A lake with a history: rows inlined and in Parquet, changed, deleted, at many versions; and all it says of itself."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from lake_rows import add_rows

from storage.lake.annotations import ingest
from storage.lake.batches import Draft, close_batch, reserve
from storage.lake.models import add_model
from storage.lake.store import Connection, Store
from storage.records import Answer, Model, ModelStatus, Proposal, Split

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def live(store: Store, seed: int = 1) -> None:
    """Import, publish, answer, train: what a workspace does in its first days, small and large."""
    rng = random.Random(seed)
    add_rows(store, [(f"{seed}-{k:05}", f'text {k} of {seed}, it\'s "é"') for k in range(12_000)], f"{seed}.csv")
    for turn in range(3):
        add_rows(store, [(f"{seed}-x{turn}-{k}", f"more {k} {turn} {seed}") for k in range(5)], "more.csv")
        ids = [f"{seed}-{k:05}" for k in rng.sample(range(12_000), 20)]
        proposals = [Proposal(each, "random", 1 / 3 if rank % 2 else None, rank) for rank, each in enumerate(ids, 1)]
        draft = Draft(Split.TRAINING, ids, proposals, seed, store.version(), "labels", mix={"random": 20})
        batch = reserve(store, draft, beside_open=True)[0]
        at = AT + timedelta(hours=turn)
        labels = ["related", "not_related", "unsure"]
        answers = [Answer(each, rng.choice(labels), "anna", "it's", None, at) for each in ids[:15]]
        ingest(store, batch.batch_id, answers, f"{turn}.csv")
        add_model(store, Model(f"{seed}-m{turn}", at, store.version(), 15, "e", "{}", "h", ModelStatus.CANDIDATE))
        close_batch(store, batch.batch_id)

    def tokens(connection: Connection) -> None:
        connection.execute("INSERT INTO lake.features SELECT 'e', item_id, encode(text) FROM lake.items")

    store.write(tokens, "features", bulk=True)
    store.write(lambda c: c.execute("DELETE FROM lake.features WHERE item_id LIKE '%7'"), "odd ones")
    odd = "INSERT INTO lake.metrics SELECT 'm', 's', 'f', 'nan'::DOUBLE, -0.0, 'inf'::DOUBLE, NULL, 1, 1, now()"
    store.write(lambda connection: connection.execute(odd), "odd numbers")


def history(store: Store, newest: int | None = None) -> dict[tuple[int, str], Any]:
    """(version, table) -> rows and a digest of them, for five versions from the oldest to the newest."""
    found = {}
    newest = newest or store.version()
    for version in sorted({1 + (newest - 1) * part // 4 for part in range(5)}):
        there = store.rows(
            """SELECT table_name FROM __ducklake_metadata_lake.ducklake_table
            WHERE begin_snapshot <= $v AND coalesce(end_snapshot > $v, true) ORDER BY table_name""",
            {"v": version},
        )
        for (name,) in there:
            sql = (
                f"SELECT count(*), sum(hash(t::VARCHAR)::HUGEINT)::VARCHAR FROM lake.{name} t AT (VERSION => {version})"
            )
            found[version, name] = store.rows(sql)
    return found
