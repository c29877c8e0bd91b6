"""Annotators: their renames (files with an earlier name count for the present one), answers, speed and agreement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from storage.errors import BatchError
from storage.lake.annotations import annotator_spellings
from storage.lake.connection import bound
from storage.lake.schema import adjudicated, current_labels, standing_answers
from storage.lake.store import Connection, Store
from storage.readers.spellings import folded
from storage.records import NAMELESS, ORIGINAL


@dataclass(frozen=True)
class Annotator:
    """An annotator with answers or assignments.

    Attributes:
        last_at: Time of the newest answer, in UTC; None without answers.
        earlier_names: Names that were renamed to this one.
    """

    annotator: str
    n_answers: int
    n_items: int
    last_at: datetime | None
    earlier_names: str


def list_annotators(store: Store) -> list[Annotator]:
    """All annotators with answers or assignments, those with most answers first."""
    return store.records(
        Annotator,
        """SELECT annotator, count(item_id) AS n_answers, count(DISTINCT item_id) AS n_items,
            max(annotated_at) AS last_at,
            coalesce((SELECT string_agg(name, ', ' ORDER BY name) FROM lake.renamed_annotators r
                WHERE r.annotator = a.annotator), '') AS earlier_names
        FROM (SELECT annotator, item_id, annotated_at FROM lake.annotations
            UNION ALL SELECT DISTINCT annotator, NULL, NULL FROM lake.assignments) a
        GROUP BY annotator ORDER BY n_answers DESC, annotator""",
    )


def rename_annotator(store: Store, name: str, new: str, *, merge: bool = False) -> int:
    """Rename an annotator everywhere, in one transaction; returns the number of items that both had answered.

    Files with the earlier name count for the new one from then on. If both had answered an item, the answer ingested
    last counts.

    Args:
        merge: Merge into an existing annotator; otherwise the new name must be unused.

    Raises:
        BatchError: There is no such annotator, or the new name is in use or, with `merge`, is not.
    """
    spellings, new = annotator_spellings(store), " ".join(new.split())
    before = _spelling(spellings, name)
    if merge:
        new = _spelling(spellings, new)
    is_same = folded(before) == folded(new)
    if merge and is_same and folded(name) != folded(new):
        return 0  # done before, by a command that was killed then
    if not folded(new) or {folded(before), folded(new)} & {*NAMELESS} or (merge and is_same):
        raise BatchError(
            f"{name!r} cannot become {new!r}.", hint=f"Use two different names other than {', '.join(NAMELESS)}."
        )
    if not merge and not is_same and folded(new) in {folded(spelling) for spelling in spellings.values()}:
        raise BatchError(
            f"There is an annotator {new!r} already.", hint=f"Merge the two: pal annotators merge {name!r} {new!r}"
        )

    def change(connection: Connection) -> int:
        names = {"old": before, "new": new}
        both = connection.execute(
            bound(
                """SELECT count(DISTINCT a.item_id) FROM lake.annotations a JOIN lake.annotations b USING (item_id)
                WHERE a.annotator = $old AND b.annotator = $new""",
                names,
            )
        ).fetchone()
        connection.execute(
            bound(
                """DELETE FROM lake.assignments WHERE annotator = $old AND (batch_id, item_id) IN (
                    SELECT (batch_id, item_id) FROM lake.assignments WHERE annotator = $new)""",
                names,
            )
            if not is_same
            else "SELECT 1"
        )
        for table in ("annotations", "assignments", "renamed_annotators"):
            connection.execute(bound(f"UPDATE lake.{table} SET annotator = $new WHERE annotator = $old", names))
        connection.execute(bound("DELETE FROM lake.renamed_annotators WHERE name IN ($old, $new)", names))
        if before != new:
            connection.execute(bound("INSERT INTO lake.renamed_annotators VALUES ($old, $new)", names))
        return int(both[0]) if both and not is_same else 0

    return store.write(change, f"{'merge' if merge else 'rename'} an annotator")


def _spelling(spellings: dict[str, str], name: str) -> str:
    """The stored spelling of an annotator's name."""
    if folded(name) not in spellings:
        raise BatchError(f"There is no annotator {name!r}.", hint="List the names: pal annotators")
    return spellings[folded(name)]


@dataclass(frozen=True)
class Person:
    """An annotator; times in UTC.

    Attributes:
        n_answers: All answers, given on `n_days` days.
        seconds: Median duration of timed answers; None if there are none.
        n_shared: Labels given to items that others answered too; `n_agreed` of them equal the item's label.
        n_gold: Labels given to items with an adjudicated label, to check the annotator; `n_right` of them equal it.
        n_held: Assigned items of open batches without an answer; the oldest batch was published at `held_since`.
    """

    annotator: str
    n_answers: int
    n_days: int
    last_at: datetime | None
    seconds: float | None
    n_shared: int
    n_agreed: int
    n_gold: int
    n_right: int
    n_held: int
    held_since: datetime | None


def people(store: Store) -> list[Person]:
    """All annotators with answers or assignments, by name; labels imported from the original scripts are left out."""
    return store.records(
        Person,
        f"""WITH given AS (
            SELECT annotator, count(*) AS n_answers, count(DISTINCT annotated_at::DATE) AS n_days,
                max(annotated_at) AS last_at, median(seconds) AS seconds
            FROM lake.annotations WHERE annotator <> '{ORIGINAL}' GROUP BY annotator
        ), shared AS (
            SELECT annotator, count(*) AS n_shared, count(*) FILTER (answer = label) AS n_agreed
            FROM (FROM ({standing_answers()}) QUALIFY count(*) OVER (PARTITION BY item_id) > 1)
            JOIN ({current_labels()}) USING (item_id) WHERE answer NOT IN ('unsure', 'skip') GROUP BY annotator
        ), gold AS (
            SELECT annotator, count(*) AS n_gold, count(*) FILTER (answer = label) AS n_right
            FROM (SELECT annotator, item_id, answer FROM ({standing_answers()})) JOIN ({adjudicated()}) USING (item_id)
            SEMI JOIN (FROM lake.assignments WHERE gold = 1) USING (annotator, item_id)
            WHERE label IS NOT NULL AND answer NOT IN ('unsure', 'skip') GROUP BY annotator
        ), held AS (
            SELECT annotator, count(*) AS n_held, min(created_at) AS held_since
            FROM lake.assignments a JOIN lake.batches b USING (batch_id) WHERE status = 'published'
            AND NOT EXISTS (FROM lake.annotations g WHERE g.batch_id = a.batch_id AND g.item_id = a.item_id
                AND g.annotator = a.annotator) GROUP BY annotator
        )
        SELECT annotator, coalesce(n_answers, 0) AS n_answers, coalesce(n_days, 0) AS n_days, last_at, seconds,
            coalesce(n_shared, 0) AS n_shared, coalesce(n_agreed, 0) AS n_agreed, coalesce(n_gold, 0) AS n_gold,
            coalesce(n_right, 0) AS n_right, coalesce(n_held, 0) AS n_held, held_since
        FROM given FULL JOIN held USING (annotator) LEFT JOIN shared USING (annotator) LEFT JOIN gold USING (annotator)
        ORDER BY annotator""",
    )


def answers_by_day(store: Store, n: int) -> list[tuple[date, int]]:
    """How many answers came on each of the last n days with answers, the oldest first."""
    rows = store.rows(
        f"""SELECT annotated_at::DATE AS day, count(*) FROM lake.annotations WHERE annotator <> '{ORIGINAL}'
        GROUP BY day ORDER BY day DESC LIMIT ?""",
        [n],
    )
    return rows[::-1]
