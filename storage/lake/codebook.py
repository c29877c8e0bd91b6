"""The codebook: its labels, how they changed, and what a change does to the labels of items.

Each change of labels is a new number of the codebook and some rows of `lake.label_changes`. Answers stay as they were
given, to a batch that showed one number of the codebook; `schema.answers_at` maps them.
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
    """One row of a change.

    Attributes:
        codebook: The number of the codebook that the change made.
        kind: rename, merge, retire, add or split.
        label: The label that is gone; None where one was only added.
        becomes: The label in its place, or the one added; None where the items have none.
        labels_before: Name and key of each label before it.
        lake_version: The version that it was made on; later ones have it.
        changed_at: In UTC.
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
    """How the labels changed: the rows of all changes, the oldest first."""

    changes: tuple[LabelChange, ...] = ()

    @property
    def number(self) -> int:
        """The number in force; 1 where nothing changed yet."""
        return self.changes[-1].codebook if self.changes else 1

    def at(self, version: int) -> int:
        """The number that was in force at a lake version."""
        return max((each.codebook for each in self.changes if each.lake_version < version), default=1)

    def became(self, label: str, since: int) -> str | None:
        """What a label of number `since` is now; None where it was retired or split."""
        for change in self.changes:
            if change.codebook > since and change.label == label:
                if change.becomes is None:
                    return None
                label = change.becomes
        return label

    def became_after(self, label: str, version: int) -> str | None:
        """What a label of a lake version is now, as `became`."""
        return self.became(label, self.at(version))

    def labels_of(self, number: int) -> dict[str, str] | None:
        """Name and key of each label of an earlier number; None for the one in force, whose labels pal.toml has."""
        return next((each.labels_before for each in self.changes if each.codebook > number), None)

    @property
    def known(self) -> set[str]:
        """The labels that changes made, and no later one took."""
        return {each.becomes for each in self.changes if each.becomes is not None and not self.last_of(each.becomes)}

    def made_by(self, label: str) -> list[LabelChange]:
        """The rows of the newest change that made a label; none where none did."""
        number = max((each.codebook for each in self.changes if each.becomes == label), default=0)
        return [each for each in self.changes if each.codebook == number]

    def last_of(self, label: str) -> list[LabelChange]:
        """The rows of the change by which a label went; none where it never did, or came back."""
        gone = max((each.codebook for each in self.changes if each.label == label), default=0)
        back = max((each.codebook for each in self.changes if each.becomes == label), default=0)
        return [each for each in self.changes if each.codebook == gone] if gone > back else []


UNCHANGED = Codebook()


@dataclass(frozen=True)
class NewChange:
    """A change to be made.

    Attributes:
        becomes: Label that goes -> the label in its place; None where its items have none from then on.
        added: Labels that are new.
        ask_about: A label whose items are to be asked again though they keep it.
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
    """What a change does.

    Attributes:
        codebook: The number that it makes.
        n_kept: Items that have a label before and after, another one.
        n_settled: Items without a label before that have one afterwards.
        n_evaluation: Of those to ask, in the evaluation set.
        to_ask: Items to ask again, by item_id: they lose their label, or may have another now.
    """

    codebook: int
    n_kept: int = 0
    n_settled: int = 0
    n_evaluation: int = 0
    to_ask: tuple[str, ...] = field(default=(), repr=False)


class _UndoneError(Exception):
    """Undoes the change of a forecast."""

    def __init__(self, effect: Effect) -> None:
        self.effect = effect


def codebook_of(store: Store) -> Codebook:
    """Every change of labels so far."""
    return Codebook(tuple(store.records(LabelChange, "FROM lake.label_changes ORDER BY codebook, label, becomes")))


def given_answers(store: Store) -> set[str]:
    """Every answer that was ever given, in the words of its time."""
    return {answer for (answer,) in store.rows("SELECT DISTINCT answer FROM lake.annotations")}


def answered_labels(store: Store) -> dict[str, int]:
    """The labels, as of now, of the answers that count, and to how many items each was answered."""
    sql = f"""SELECT answer, count(DISTINCT item_id) FROM ({standing_answers()})
        WHERE answer NOT IN ('unsure', 'skip') GROUP BY answer ORDER BY answer"""
    return dict(store.rows(sql))


def items_without_label(store: Store) -> list[str]:
    """Items that have no label because it was retired or split, and that no batch asks about, by item_id."""
    sql = f"""SELECT item_id FROM ({current_labels()}) WHERE label IS NULL
        AND item_id IN (SELECT item_id FROM ({standing_answers()}) WHERE answer IS NULL)
        AND item_id NOT IN (SELECT item_id FROM ({OUT})) ORDER BY item_id"""
    return [row[0] for row in store.rows(sql)]


def forecast(store: Store, change: NewChange) -> Effect:
    """What a change would do: it is made, looked at, and undone."""

    def make_and_undo(connection: Connection) -> None:
        raise _UndoneError(_make(connection, change))

    try:
        store.write(make_and_undo, f"forecast {change.kind}")
    except _UndoneError as undone:
        return undone.effect
    raise AssertionError("unreachable")


def change_labels(store: Store, change: NewChange, expected: Effect, review: Draft | None = None) -> str | None:
    """Make a change, and publish a batch of the items to ask again, in one transaction; returns the batch's id.

    Raises:
        StoreError: It would not do what was expected: answers, or another change, came in meanwhile.
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
    last = connection.execute("SELECT coalesce(max(codebook), 1) FROM lake.label_changes").fetchone()
    number = last[0] + 1 if last else 2
    version = connection.execute("FROM lake.current_snapshot()").fetchone()
    facts = [json.dumps(dict(change.labels_before)), version[0] if version else 0, change.changed_by, change.reason]
    for label, becomes in (*change.becomes.items(), *((None, name) for name in change.added)):
        row = [number, change.kind, label, becomes, *facts]
        connection.execute(
            bound("INSERT INTO lake.label_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, now()::TIMESTAMP)", row)
        )
    after = _labels(connection)
    lost = [item_id for item_id, (_, label) in before.items() if label is not None and after[item_id][1] is None]
    asked = [item_id for item_id, (_, label) in before.items() if label is not None and label == change.ask_about]
    to_ask = sorted(lost + asked)
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
