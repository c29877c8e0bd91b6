"""Annotators: who they are, and names that were changed. Files with an earlier name count for the one of now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.errors import BatchError
from storage.lake.annotations import annotator_spellings
from storage.lake.connection import bound
from storage.lake.store import Connection, Store
from storage.readers.spellings import folded
from storage.records import NAMELESS


@dataclass(frozen=True)
class Annotator:
    """Somebody who answered or is asked.

    Attributes:
        last_at: Of the newest answer, in UTC; None where there is none.
        earlier_names: Names that were changed to this one.
    """

    annotator: str
    n_answers: int
    n_items: int
    last_at: datetime | None
    earlier_names: str


def list_annotators(store: Store) -> list[Annotator]:
    """Everybody who answered or is asked in a batch, the busiest first."""
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
    """Change an annotator's name everywhere, in one transaction; returns the items that both had answered.

    Files with the earlier name count for the new one from then on. Of two answers that one annotator has then to an
    item, the one ingested last counts.

    Args:
        merge: The new name is that of another annotator, whose answers these become; else it must be free.

    Raises:
        BatchError: Nobody has that name, or the new one is taken or, with `merge`, is nobody's.
    """
    spellings, new = annotator_spellings(store), " ".join(new.split())
    before = _known(spellings, name)
    if merge:
        new = _known(spellings, new)
    is_same = folded(before) == folded(new)
    if merge and is_same and folded(name) != folded(new):
        return 0  # done before, by a command that was killed then
    if not folded(new) or {folded(before), folded(new)} & {*NAMELESS} or (merge and is_same):
        raise BatchError(f"{name!r} cannot become {new!r}.", hint=f"Give two names, none of: {', '.join(NAMELESS)}.")
    if not merge and not is_same and folded(new) in {folded(each) for each in spellings.values()}:
        raise BatchError(f"There is an annotator {new!r} already.", hint=f"pal annotators merge {name!r} {new!r}")

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


def _known(spellings: dict[str, str], name: str) -> str:
    """How an annotator's name is written."""
    if folded(name) not in spellings:
        raise BatchError(f"There is no annotator {name!r}.", hint="See their names: pal annotators")
    return spellings[folded(name)]
