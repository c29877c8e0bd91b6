"""The codebook: the history of label changes, and their effect on the labels of items.

Each change makes a new version of the codebook, numbered from 1, and adds rows to `lake.label_changes`. Answers are
not changed; each belongs to a batch, which has a codebook number, and `schema.answers_at` maps them to today's labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storage.errors import StoreError
from storage.lake.batches import Draft, insert_batch, next_batch_id
from storage.lake.connection import bound
from storage.lake.schema import OUT, current_labels, standing_answers
from storage.lake.store import Connection, Store
from storage.records import BatchStatus, Split


@dataclass(frozen=True)
class LabelChange:
    """One row of a label change.

    Attributes:
        codebook: The codebook number that the change made.
        kind: rename, merge, retire, add or split.
        label: The removed label; None if a label was added.
        becomes: The replacement or the added label; None if the items lose their label.
        labels_before: Name and key of each label before the change.
        lake_version: The lake version before the change; later versions include it.
        changed_at: Time in UTC.
    """

    codebook: int
    kind: str
    label: str | None
    becomes: str | None
    labels_before: dict[str, str]
    lake_version: int
    changed_by: str
    reason: str
    changed_at: datetime


@dataclass(frozen=True)
class Codebook:
    """The history of label changes: all rows, oldest first."""

    changes: tuple[LabelChange, ...] = ()

    @property
    def number(self) -> int:
        """The current number; 1 if there were no changes."""
        return self.changes[-1].codebook if self.changes else 1

    def at(self, version: int) -> int:
        """The number at a lake version."""
        return max((change.codebook for change in self.changes if change.lake_version < version), default=1)

    def became(self, label: str, since: int) -> str | None:
        """The present name of a label of number `since`; None if it was retired or split."""
        for change in self.changes:
            if change.codebook > since and change.label == label:
                if change.becomes is None:
                    return None
                label = change.becomes
        return label

    def became_after(self, label: str, version: int) -> str | None:
        """The present name of a label of a lake version, like `became`."""
        return self.became(label, self.at(version))

    def labels_of(self, number: int) -> dict[str, str] | None:
        """Name and key of each label of an earlier number; None for the current one, whose labels are in pal.toml."""
        return next((change.labels_before for change in self.changes if change.codebook > number), None)

    @property
    def added(self) -> set[str]:
        """Labels that changes added or renamed and that still exist."""
        labels = {change.becomes for change in self.changes if change.becomes is not None}
        return {label for label in labels if not self.last_of(label)}

    def made_by(self, label: str) -> list[LabelChange]:
        """The rows of the newest change that made a label; empty if there is none."""
        number = max((change.codebook for change in self.changes if change.becomes == label), default=0)
        return [change for change in self.changes if change.codebook == number]

    def last_of(self, label: str) -> list[LabelChange]:
        """The rows of the change that removed a label; empty if it still exists."""
        removed = max((change.codebook for change in self.changes if change.label == label), default=0)
        made = max((change.codebook for change in self.changes if change.becomes == label), default=0)
        return [change for change in self.changes if change.codebook == removed] if removed > made else []


UNCHANGED = Codebook()


@dataclass(frozen=True)
class NewChange:
    """A requested label change.

    Attributes:
        becomes: Removed label -> its replacement; None if its items lose their label.
        added: New labels.
        ask_about: A label whose items are queried again although they keep it.
    """

    kind: str
    becomes: Mapping[str, str | None]
    added: Sequence[str]
    labels_before: Mapping[str, str]
    changed_by: str
    reason: str = ""
    ask_about: str | None = None


@dataclass(frozen=True)
class Effect:
    """The effect of a label change.

    Attributes:
        codebook: The new codebook number.
        n_kept: Items whose label is replaced by another one.
        n_settled: Items without a label that get one.
        n_evaluation: Items of `to_ask` in the evaluation set.
        to_ask: Ids of items to query again, since they lose their label or could have another one now.
    """

    codebook: int
    n_kept: int = 0
    n_settled: int = 0
    n_evaluation: int = 0
    to_ask: tuple[str, ...] = field(default=(), repr=False)


class _UndoneError(Exception):
    """Rolls back the change of a forecast."""

    def __init__(self, effect: Effect) -> None:
        self.effect = effect


def codebook_of(store: Store) -> Codebook:
    """Load the history of label changes."""
    return Codebook(tuple(store.records(LabelChange, "FROM lake.label_changes ORDER BY codebook, label, becomes")))


def given_answers(store: Store) -> set[str]:
    """Every answer that was ever given, in the words of its time."""
    return {answer for (answer,) in store.rows("SELECT DISTINCT answer FROM lake.annotations")}


def answered_labels(store: Store) -> dict[str, int]:
    """Today's labels of all answers that count, with the number of items."""
    sql = f"""SELECT answer, count(DISTINCT item_id) FROM ({standing_answers()})
        WHERE answer NOT IN ('unsure', 'skip') GROUP BY answer ORDER BY answer"""
    return dict(store.rows(sql))


def items_without_label(store: Store) -> list[str]:
    """Ids of items that lost their label when it was retired or split and that are in no open batch."""
    sql = f"""SELECT item_id FROM ({current_labels()}) WHERE label IS NULL
        AND item_id IN (SELECT item_id FROM ({standing_answers()}) WHERE answer IS NULL)
        AND item_id NOT IN (SELECT item_id FROM ({OUT})) ORDER BY item_id"""
    return [row[0] for row in store.rows(sql)]


def forecast(store: Store, change: NewChange) -> Effect:
    """Compute the effect of a change by making it and rolling it back."""

    def make_and_undo(connection: Connection) -> None:
        raise _UndoneError(_make(connection, change))

    try:
        store.write(make_and_undo, f"forecast {change.kind}")
    except _UndoneError as undone:
        return undone.effect
    raise AssertionError("unreachable")


def change_labels(store: Store, change: NewChange, expected: Effect, review: Draft | None = None) -> str | None:
    """Make a change and publish a batch of the items to query again, in one transaction; returns the batch's id.

    Raises:
        StoreError: The effect differs from `expected`, since answers or labels changed meanwhile.
    """

    def make(connection: Connection) -> str | None:
        if _make(connection, change) != expected:
            raise StoreError(
                "Answers or labels changed since the forecast; no label was changed.", hint="Run the command again."
            )
        if review is None:
            return None
        batch_id = next_batch_id(connection, review.purpose)
        insert_batch(connection, batch_id, review, BatchStatus.PUBLISHED)
        return batch_id

    return store.write(make, f"{change.kind} labels")


def _make(connection: Connection, change: NewChange) -> Effect:
    before = _labels(connection)
    newest = connection.execute("SELECT coalesce(max(codebook), 1) FROM lake.label_changes").fetchone()
    number = newest[0] + 1 if newest else 2
    version = connection.execute("FROM lake.current_snapshot()").fetchone()
    facts = [json.dumps(dict(change.labels_before)), version[0] if version else 0, change.changed_by, change.reason]
    for label, becomes in (*change.becomes.items(), *((None, name) for name in change.added)):
        row = [number, change.kind, label, becomes, *facts]
        connection.execute(
            bound("INSERT INTO lake.label_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, now()::TIMESTAMP)", row)
        )
    after = _labels(connection)
    lost = [item_id for item_id, (_, label) in before.items() if label is not None and after[item_id][1] is None]
    uncertain = [item_id for item_id, (_, label) in before.items() if label is not None and label == change.ask_about]
    to_ask = sorted(lost + uncertain)
    pairs = [(before[item_id][1], label) for item_id, (_, label) in after.items()]
    return Effect(
        number,
        sum(old is not None and new is not None and old != new for old, new in pairs),
        sum(old is None and new is not None for old, new in pairs),
        sum(before[item_id][0] == Split.EVALUATION for item_id in to_ask),
        tuple(to_ask),
    )


def _labels(connection: Connection) -> dict[str, tuple[str, str | None]]:
    rows = connection.execute(f"SELECT item_id, split, label FROM ({current_labels()})").fetchall()
    return {item_id: (split, label) for item_id, split, label in rows}
