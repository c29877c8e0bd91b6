"""Labels in imported files, stored as annotations by the annotator `imported`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import SourceError
from storage.lake.annotations import free_batch_id, next_ingestion
from storage.lake.batches import Draft, insert_batch
from storage.lake.connection import bound, listed
from storage.lake.store import Connection, Store
from storage.readers.source import Reject, Source, shortened
from storage.records import IMPORTED, BatchStatus, Split


@dataclass(frozen=True)
class FileLabels:
    """How the labels of a file are interpreted.

    Attributes:
        split: The split of the labeled items.
        answer: Maps a label of the file to an answer, or None for no answer; raises SourceError for unknown labels.
        label_set: Digest of the label set.
    """

    split: Split
    answer: Callable[[str], str | None]
    label_set: str


@dataclass(frozen=True)
class ImportedLabels:
    """The result of importing labels; `conflicts` are rows whose text has another label in an earlier row."""

    n_new: int
    n_answered: int
    conflicts: list[tuple[int, str, str, int]]


def answers_in(source: Source, staged: Path, labels: FileLabels) -> dict[str, str | None]:
    """Map each label in a staged file to its answer, before anything is written.

    Raises:
        SourceError: A label is not in pal.toml; the error names file, row and label.
    """
    import duckdb

    sql = "SELECT label, min(row) FROM read_parquet(?) WHERE label <> '' GROUP BY label ORDER BY 2"
    with duckdb.connect() as connection:
        rows = connection.execute(bound(sql, [str(staged)])).fetchall()
    answers = {}
    for label, row in rows:
        try:
            answers[label] = labels.answer(label)
        except SourceError as error:
            what = f"{source.path}, row {row}: {shortened(label)!r} is not a label of pal.toml."
            raise SourceError(what, hint=error.hint) from error
    return answers


_GIVEN = """
    CREATE OR REPLACE TEMP TABLE given AS
    SELECT i.item_id, row, answer, first_value(answer) OVER texts AS label, first_value(row) OVER texts AS first
    FROM read_parquet($staged) s JOIN ({answers}) USING (label)
    JOIN (SELECT item_id, text_hash FROM lake.items WHERE text <> '') i ON i.text_hash = left(sha256(s.folded), 32)
    WHERE answer IS NOT NULL WINDOW texts AS (PARTITION BY i.item_id ORDER BY row)"""

_NEW = """
    CREATE OR REPLACE TEMP TABLE new_labels AS SELECT item_id, label, row_number() OVER (ORDER BY row) AS k FROM given
    ANTI JOIN (SELECT item_id FROM lake.annotations) USING (item_id) WHERE row = first"""


def import_labels(
    store: Store, staged: Path, answers: Mapping[str, str | None], labels: FileLabels, source: str
) -> ImportedLabels:
    """Import the labels of a staged file as an ingested batch, for texts in the lake; a text's first label counts.

    Items that have annotations are skipped, so importing twice changes nothing.
    """

    def change(connection: Connection) -> ImportedLabels:
        rows: list[dict[str, Any]] = [{"label": label, "answer": answer} for label, answer in answers.items()]
        listed_answers = listed(rows, {"label": "VARCHAR", "answer": "VARCHAR"})
        connection.execute(bound(_GIVEN.format(answers=listed_answers), {"staged": str(staged)}))
        connection.execute(_NEW)
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM new_labels), (SELECT count(DISTINCT item_id) FROM given)"
        ).fetchone()
        n_new, n_items = counted or (0, 0)
        if n_new:
            batch_id = free_batch_id(connection, f"{IMPORTED}-{labels.split.value}")
            draft = Draft(labels.split, (), (), 0, 0, labels.label_set)
            insert_batch(connection, batch_id, draft, BatchStatus.INGESTED, n_new)
            values = {"batch": batch_id, "source": source, "n": next_ingestion(connection)}
            connection.execute(
                bound(
                    f"""INSERT INTO lake.batch_items (batch_id, item_id, strategy, score, rank, position)
                    SELECT $batch, item_id, '{IMPORTED}', NULL, k, k - 1 FROM new_labels ORDER BY k""",
                    {"batch": batch_id},
                )
            )
            connection.execute(
                bound(
                    f"""INSERT INTO lake.annotations (item_id, annotator, answer, note, batch_id, annotated_at,
                    ingested_at, source_file, ingestion) SELECT item_id, '{IMPORTED}', label, '', $batch,
                    now()::TIMESTAMP, now()::TIMESTAMP, $source, $n FROM new_labels ORDER BY k""",
                    values,
                )
            )
        conflicts = connection.execute(
            "SELECT row, answer, label, first FROM given WHERE answer <> label ORDER BY row"
        ).fetchall()
        connection.execute("DROP TABLE given; DROP TABLE new_labels")
        return ImportedLabels(n_new, n_items - n_new, conflicts)

    return store.write(change, f"import labels of {source}", bulk=True)


def label_rejects(path: Path, imported: ImportedLabels) -> list[Reject]:
    """The rows whose text has another label in an earlier row, which counts."""
    return [
        Reject(str(path), row, shortened(answer), f"the same text has label {label!r} in row {first}, which counts")
        for row, answer, label, first in imported.conflicts
    ]
