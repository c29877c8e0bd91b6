"""Annotators at work: answers, speed, agreement and open assignments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from storage.lake.schema import adjudicated, current_labels, standing_answers
from storage.lake.store import Store
from storage.records import ORIGINAL


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
