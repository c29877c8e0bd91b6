"""Batches as the tests of storage make them, and what the current labels are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from storage.lake.batches import Draft, reserve
from storage.lake.schema import current_labels
from storage.lake.store import Store
from storage.records import Proposal, Purpose, Split


def draft(*item_ids: str, purpose: Purpose | Split = Split.TRAINING, **more: Any) -> Draft:
    """A batch of items that were all proposed at random."""
    proposals = [Proposal(item_id, "random", None, k + 1) for k, item_id in enumerate(item_ids)]
    return Draft(purpose, item_ids, proposals, 7, 3, "digest", **more)


def publish(store: Store, *item_ids: str, purpose: Purpose | Split = Split.TRAINING, **more: Any) -> str:
    """Reserve such a batch of the lake as it is; its id."""
    made = replace(draft(*item_ids, purpose=purpose, **more), lake_version=store.version())
    return reserve(store, made, beside_open=True)[0].batch_id


def labels(store: Store, version: int | None = None) -> dict[str, str | None]:
    """The current label of each item that has an answer."""
    return dict(store.rows(f"SELECT item_id, label FROM ({current_labels(version)})"))
