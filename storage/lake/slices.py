"""Recently imported texts; each import is a slice of the texts with a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.lake.evaluation_reserve import RANK
from storage.lake.store import Store


@dataclass(frozen=True)
class RecentTexts:
    """Random samples of the texts imported since a time (UTC), and of all earlier texts."""

    since: datetime
    old: list[str]
    new: list[str]


def recent_texts(store: Store, least: int, most: int) -> RecentTexts | None:
    """Sample the newest imports with together at least `least` texts, and the older ones; None if these have fewer.

    Args:
        most: Maximum size of a sample: the texts of the lowest ranks, so that every call gives the same.
    """
    since = store.rows(
        """SELECT max(imported_at) FROM (SELECT imported_at, sum(count(*)) OVER (ORDER BY imported_at DESC) AS n_new,
            sum(count(*)) OVER () AS n FROM lake.items GROUP BY imported_at)
        WHERE n_new >= $least AND n - n_new >= $least""",
        {"least": least},
    )[0][0]
    if since is None:
        return None
    samples: dict[bool, list[str]] = {False: [], True: []}
    for is_new, text in store.rows(
        f"""SELECT imported_at >= $since AS is_new, text FROM lake.items
        QUALIFY row_number() OVER (PARTITION BY is_new ORDER BY {RANK}, item_id) <= $most ORDER BY {RANK}, item_id""",
        {"since": since, "most": most},
    ):
        samples[is_new].append(text)
    return RecentTexts(since, samples[False], samples[True])
