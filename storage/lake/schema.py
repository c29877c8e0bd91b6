"""The tables of the lake, their migrations, and the basic queries.

All columns are scalar: nested values lose quotes when DuckLake inlines them. Items, features, annotations, metrics and
decisions are only appended; batches and models change their status. Corrections by people are the exception: the text
of an item (`edits.py`) and the name of an annotator (`annotators.py`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StoreError
from storage.lake.connection import bound, listed
from storage.lake.store import Connection, Store, records_of
from storage.readers.spellings import folded, spelled_first, text_hash
from storage.records import NAMELESS, RunRecord
from storage.run_records import Runs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Migration:
    """A step from one schema version to the next.

    Attributes:
        purpose: A short description.
        statements: SQL to run in one transaction, which also records the new version.
        moves_runs: Whether the runs in the lake are first copied to the record of runs.
        change: A Python step after the statements.
    """

    purpose: str
    statements: tuple[str, ...]
    moves_runs: bool = False
    change: Callable[[Connection], None] | None = None


def _fold_spellings(connection: Connection) -> None:
    """Update the hashes of texts that `folded` now reads differently, and unify each annotator's spelling."""
    rows = connection.execute(
        "SELECT item_id, text, text_hash FROM lake.items WHERE NOT regexp_full_match(text, '[\\x00-\\x7F]*')"
    ).fetchall()
    hashes = [(item_id, new) for item_id, text, old in rows if (new := text_hash(text)) != old]
    _replace(connection, "items", "item_id", "text_hash", hashes)
    names = [
        name
        for (name,) in connection.execute(
            """SELECT annotator FROM (SELECT annotator, ingestion FROM lake.annotations
                UNION ALL SELECT annotator, NULL FROM lake.assignments)
            GROUP BY annotator ORDER BY min(ingestion) NULLS LAST, annotator"""
        ).fetchall()
    ]
    spellings = spelled_first(names)
    respelled = [(name, first) for name in names if (first := spellings[folded(name)]) != name]
    for table in ("annotations", "assignments"):
        _replace(connection, table, "annotator", "annotator", respelled)


def _replace(connection: Connection, table: str, key: str, column: str, pairs: list[tuple[str, str]]) -> None:
    """Set a column of the rows with the given keys."""
    for start in range(0, len(pairs), 10_000):
        rows = [{"k": k, "v": v} for k, v in pairs[start : start + 10_000]]
        connection.execute(
            f"""UPDATE lake.{table} SET {column} = v FROM ({listed(rows, {"k": "VARCHAR", "v": "VARCHAR"})}) n
            WHERE {key} = k"""
        )


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "tables of items, batches, annotations and models",
        (
            """CREATE TABLE lake.items (item_id VARCHAR NOT NULL, text VARCHAR NOT NULL, text_hash VARCHAR NOT NULL,
                published_at TIMESTAMP, source VARCHAR NOT NULL, imported_at TIMESTAMP NOT NULL)""",
            "CREATE TABLE lake.features (encoder_id VARCHAR NOT NULL, item_id VARCHAR NOT NULL, tokens BLOB NOT NULL)",
            """CREATE TABLE lake.vocabularies (encoder_id VARCHAR NOT NULL, n_items BIGINT NOT NULL,
                words VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL)""",
            """CREATE TABLE lake.batches (batch_id VARCHAR NOT NULL, purpose VARCHAR NOT NULL, status VARCHAR NOT NULL,
                n BIGINT NOT NULL, created_at TIMESTAMP NOT NULL, model_id VARCHAR, seed BIGINT NOT NULL,
                lake_version BIGINT NOT NULL, label_set VARCHAR NOT NULL, mix VARCHAR NOT NULL)""",
            """CREATE TABLE lake.batch_items (batch_id VARCHAR NOT NULL, item_id VARCHAR NOT NULL,
                strategy VARCHAR NOT NULL, score DOUBLE, rank BIGINT NOT NULL, position BIGINT NOT NULL)""",
            """CREATE TABLE lake.annotations (item_id VARCHAR NOT NULL, annotator VARCHAR NOT NULL,
                answer VARCHAR NOT NULL, note VARCHAR NOT NULL, batch_id VARCHAR NOT NULL, seconds DOUBLE,
                annotated_at TIMESTAMP NOT NULL, ingested_at TIMESTAMP NOT NULL, source_file VARCHAR NOT NULL)""",
            """CREATE TABLE lake.models (model_id VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL,
                lake_version BIGINT NOT NULL, n_training BIGINT NOT NULL, encoder_id VARCHAR NOT NULL,
                config VARCHAR NOT NULL, weights_hash VARCHAR NOT NULL, status VARCHAR NOT NULL)""",
            """CREATE TABLE lake.metrics (model_id VARCHAR NOT NULL, split VARCHAR NOT NULL, name VARCHAR NOT NULL,
                value DOUBLE, low DOUBLE, high DOUBLE, reason VARCHAR, n BIGINT NOT NULL, lake_version BIGINT NOT NULL,
                measured_at TIMESTAMP NOT NULL)""",
            """CREATE TABLE lake.read_files (source_file VARCHAR NOT NULL, sha256 VARCHAR NOT NULL,
                read_at TIMESTAMP NOT NULL)""",
        ),
    ),
    Migration(
        "strategies and stopping criteria of a batch",
        (
            "ALTER TABLE lake.batches ADD COLUMN shares VARCHAR",
            "ALTER TABLE lake.batches ADD COLUMN stop_signs VARCHAR",
        ),
    ),
    Migration(
        "several annotators for an item",
        (
            "ALTER TABLE lake.batches ADD COLUMN overlap BIGINT",
            "ALTER TABLE lake.batches ADD COLUMN formats VARCHAR",
            """CREATE TABLE lake.assignments (batch_id VARCHAR NOT NULL, item_id VARCHAR NOT NULL,
                annotator VARCHAR NOT NULL, position BIGINT NOT NULL, gold BIGINT NOT NULL)""",
        ),
    ),
    Migration(
        "promotion decisions and runs",
        (
            """CREATE TABLE lake.decisions (model_id VARCHAR NOT NULL, previous_id VARCHAR, promoted BIGINT NOT NULL,
                decided_by VARCHAR NOT NULL, reason VARCHAR NOT NULL, decided_at TIMESTAMP NOT NULL)""",
            """CREATE TABLE lake.runs (run_id VARCHAR NOT NULL, flow VARCHAR NOT NULL, status VARCHAR NOT NULL,
                host VARCHAR NOT NULL, pid BIGINT NOT NULL, started_at TIMESTAMP NOT NULL, ended_at TIMESTAMP,
                stage VARCHAR, stages VARCHAR NOT NULL, state VARCHAR, model_id VARCHAR, batch_id VARCHAR,
                message VARCHAR NOT NULL)""",
        ),
    ),
    Migration(
        "runs move out of the lake, into the record of runs",
        ("DROP TABLE lake.runs",),
        moves_runs=True,
    ),
    Migration(
        "workspace id, evaluation reserve, ids and context of texts, order of ingestion",
        (
            """CREATE TABLE lake.workspace (workspace_id VARCHAR NOT NULL, seed BIGINT NOT NULL,
                made_at TIMESTAMP NOT NULL)""",
            "INSERT INTO lake.workspace SELECT uuid()::VARCHAR, 0, now()::TIMESTAMP",
            "ALTER TABLE lake.items ADD COLUMN context VARCHAR",
            """CREATE TABLE lake.item_ids (item_id VARCHAR NOT NULL, source_id VARCHAR, source VARCHAR NOT NULL,
                source_row BIGINT)""",
            "INSERT INTO lake.item_ids SELECT item_id, NULL, source, NULL FROM lake.items ORDER BY item_id",
            "ALTER TABLE lake.annotations ADD COLUMN ingestion BIGINT",
            """UPDATE lake.annotations a SET ingestion = k FROM (
                SELECT ingested_at, row_number() OVER (ORDER BY ingested_at) AS k
                FROM (SELECT DISTINCT ingested_at FROM lake.annotations)
            ) o WHERE a.ingested_at = o.ingested_at""",
            "ALTER TABLE lake.batches ADD COLUMN codebook BIGINT",
            "UPDATE lake.batches SET codebook = 1",
            "ALTER TABLE lake.batches ADD COLUMN reserve_below BIGINT",
            "ALTER TABLE lake.batch_items ADD COLUMN split VARCHAR",
        ),
    ),
    Migration(
        "files ingested, one spelling of each annotator, hashes of texts by the rule of all spellings",
        (
            """CREATE TABLE lake.ingested_files (sha256 VARCHAR NOT NULL, source_file VARCHAR NOT NULL,
                ingestion BIGINT NOT NULL, ingested_at TIMESTAMP NOT NULL)""",
            "ALTER TABLE lake.read_files ADD COLUMN n BIGINT",
        ),
        change=_fold_spellings,
    ),
    Migration(
        "changes of labels",
        (
            """CREATE TABLE lake.label_changes (codebook BIGINT NOT NULL, kind VARCHAR NOT NULL, label VARCHAR,
                becomes VARCHAR, labels_before VARCHAR NOT NULL, lake_version BIGINT NOT NULL,
                changed_by VARCHAR NOT NULL, reason VARCHAR NOT NULL, changed_at TIMESTAMP NOT NULL)""",
        ),
    ),
    Migration(
        "corrected and erased texts, names that annotators had",
        (
            """CREATE TABLE lake.edits (item_id VARCHAR NOT NULL, text VARCHAR NOT NULL, text_hash VARCHAR NOT NULL,
                edited_at TIMESTAMP NOT NULL, ingestion BIGINT, after_version BIGINT NOT NULL)""",
            "CREATE TABLE lake.erased (text_hash VARCHAR NOT NULL, erased_at TIMESTAMP NOT NULL)",
            "CREATE TABLE lake.unreproducible (model_id VARCHAR NOT NULL, since TIMESTAMP NOT NULL)",
            "CREATE TABLE lake.renamed_annotators (name VARCHAR NOT NULL, annotator VARCHAR NOT NULL)",
        ),
    ),
)
"""One entry per schema version, oldest first."""


def migrate(store: Store, runs: Runs) -> int:
    """Migrate the lake to this program's schema, each step in one transaction; returns the version.

    A new lake gets all steps in one transaction. A SQLite catalog of an old lake is first copied to
    `catalog_copy_path`; with the data, which no step deletes, the copy is a full backup. After a kill, repeat the call.

    Args:
        runs: The record to which runs in the lake are moved.

    Raises:
        StoreError: The lake was written by a newer version of this program.
    """

    def step(connection: Connection) -> int:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS lake.schema_versions (version BIGINT NOT NULL, applied_at TIMESTAMP NOT NULL)"
        )
        row = connection.execute("SELECT coalesce(max(version), 0) FROM lake.schema_versions").fetchone()
        version = int(row[0]) if row else 0
        for migration in MIGRATIONS[version : version + 1] if version else MIGRATIONS:
            if migration.moves_runs:
                runs.put(*records_of(connection, RunRecord, RUNS_IN_LAKE))
            for statement in migration.statements:
                connection.execute(statement)
            if migration.change is not None:
                migration.change(connection)
            version += 1
            connection.execute(bound("INSERT INTO lake.schema_versions VALUES (?, now()::TIMESTAMP)", [version]))
        return version

    version = current_version(store)
    if not version:
        store.check_data()
    if version < len(MIGRATIONS):
        with store.alone():
            version = current_version(store)
            if 0 < version < len(MIGRATIONS) and store.kind == "sqlite":
                path = catalog_copy_path(store)
                store.keep_catalog(path)
                log.info("Copied the catalog to %s before migrating it to schema %d.", path, len(MIGRATIONS))
            while version < len(MIGRATIONS):
                version = store.write(step, "migrate the schema", bulk=version > 0)
    refuse_newer(version)
    return version


def refuse_newer(version: int) -> None:
    """Check that this program knows a schema version.

    Raises:
        StoreError: The lake was written by a newer version of this program.
    """
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The lake has schema version {version}; this program supports up to {len(MIGRATIONS)}.",
            hint="Upgrade the program: pip install --upgrade pytorch-active-learning",
        )


def catalog_copy_path(store: Store) -> Path:
    """Path for the copy of a SQLite catalog before a migration.

    Earlier copies are not replaced, since a half-finished migration is not a state to return to.
    """
    catalog = Path(store.catalog.partition(":")[2])
    stem = f"{catalog.stem}.before-schema-{len(MIGRATIONS)}"
    names = itertools.chain([f"{stem}{catalog.suffix}"], (f"{stem}.{k}{catalog.suffix}" for k in itertools.count(2)))
    return next(path for path in map(catalog.with_name, names) if not path.exists())


def current_version(store: Store) -> int:
    """The lake's schema version; 0 for an empty lake."""
    with store.reading():
        has_versions = store.rows(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake' AND table_name = 'schema_versions'"
        )
        return (
            int(store.rows("SELECT coalesce(max(version), 0) FROM lake.schema_versions")[0][0]) if has_versions else 0
        )


def is_empty(store: Store) -> bool:
    """Whether a lake with tables has neither batches nor texts."""
    with store.reading():
        return not any(store.rows(f"SELECT 1 FROM lake.{table} LIMIT 1") for table in ("batches", "items"))


RUNS_IN_LAKE = """
    SELECT * EXCLUDE (nth) REPLACE (CASE WHEN nth = 1 THEN run_id ELSE run_id || '-' || nth END AS run_id)
    FROM (SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY started_at, ended_at) AS nth FROM lake.runs)
    ORDER BY started_at, run_id"""
"""Query for the runs in a lake of schema version 4, in which two runs within a second could have the same id."""


def current_labels(version: int | None = None) -> str:
    """Query for the current label of every annotated item: (item_id, split, label, annotated_at).

    The newest answer of each annotator counts (`standing_answers`). `label` is the most frequent answer other than
    `skip`; it is NULL after a tie (disputed), if most are `unsure`, or if there are only skips. If an item was
    adjudicated, the newest adjudicated answer decides. `split` is the split of the batch in which the item was first
    answered, so it never changes. Answers with a renamed or merged label count as the new label (`answers_at`), and
    answers with a retired or split label do not count.

    Args:
        version: The lake version to read; None for the newest.
    """
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    return f"""
        WITH given AS MATERIALIZED (SELECT * EXCLUDE (note, seconds) FROM ({answers_at(version)})
        ), current AS MATERIALIZED ({_to_current_texts("given", version)}
        ), standing AS ({_standing("current")}), votes AS (
            SELECT item_id, answer, count(*) AS n FROM standing WHERE answer <> 'skip' GROUP BY ALL
        ), winners AS (
            SELECT item_id, nullif(arg_max(answer, n), 'unsure') AS label FROM votes v
            GROUP BY item_id HAVING count(*) FILTER (n = (SELECT max(n) FROM votes w WHERE w.item_id = v.item_id)) = 1
        ), firsts AS (
            SELECT item_id, max(annotated_at) AS annotated_at, arg_min(coalesce(p.split, b.purpose),
                (b.purpose IN ('adjudication', 'review'), coalesce(a.ingestion, 0), a.ingested_at, a.batch_id)) AS split
            FROM given a JOIN lake.batches b {at_version} USING (batch_id)
            LEFT JOIN ({_SPLITS}) p USING (batch_id, item_id) GROUP BY item_id
        ), settled AS ({_adjudicated("current", at_version)})
        SELECT item_id, split, CASE WHEN s.item_id IS NULL THEN w.label ELSE s.label END AS label, annotated_at
        FROM firsts LEFT JOIN winners w USING (item_id) LEFT JOIN settled s USING (item_id)"""


_SPLITS = "SELECT DISTINCT batch_id, item_id, split FROM lake.batch_items WHERE split IS NOT NULL"
"""Query for items whose split differs from their batch's purpose. These rows never change, so the newest are right for
any version; versions before schema 6 lack the column."""


def annotations_at(version: int | None = None) -> str:
    """Query for all annotations; in versions before schema 6, `ingestion` is NULL."""
    if version is None:
        return "FROM lake.annotations"
    return f"""FROM lake.annotations AT (VERSION => {int(version)})
        UNION ALL BY NAME SELECT NULL::BIGINT AS ingestion WHERE false"""


def label_steps(version: int | None = None) -> str:
    """Query for the present names of old labels: (label, since, codebook, becomes).

    A `label` given in a batch of codebook `since` to `codebook` - 1 is now `becomes`; NULL if it was removed.
    """
    before = f"AND lake_version < {int(version)}" if version is not None else ""
    return f"""
        WITH RECURSIVE steps AS (
            SELECT label, codebook, becomes,
                coalesce(lag(codebook) OVER (PARTITION BY label ORDER BY codebook), 0) AS since
            FROM lake.label_changes WHERE label IS NOT NULL {before}
        ), chains AS (
            SELECT label, since, codebook, becomes, codebook AS reached FROM steps
            UNION ALL SELECT c.label, c.since, c.codebook, s.becomes, s.codebook FROM chains c JOIN steps s
                ON c.becomes = s.label AND c.reached >= s.since AND c.reached < s.codebook
        )
        SELECT label, since, codebook, becomes FROM chains
        QUALIFY row_number() OVER (PARTITION BY label, codebook ORDER BY reached DESC) = 1"""


def answers_at(version: int | None = None) -> str:
    """Query for all annotations with their answers mapped to the labels of a version.

    An answer is a label of its batch's codebook; it becomes NULL if that label was retired or split later.
    """
    return f"""
        SELECT a.* REPLACE (CASE WHEN m.label IS NULL THEN a.answer ELSE m.becomes END AS answer)
        FROM ({annotations_at(version)}) a LEFT JOIN (SELECT batch_id, codebook FROM lake.batches) b USING (batch_id)
        LEFT JOIN ({label_steps(version)}) m
            ON a.answer = m.label AND coalesce(b.codebook, 1) >= m.since AND coalesce(b.codebook, 1) < m.codebook"""


def _to_current_texts(answers: str, version: int | None = None) -> str:
    """Query for the answers to the present texts of their items, without those from before a correction."""
    until = f"WHERE after_version < {int(version)}" if version is not None else ""
    return f"""SELECT a.* FROM {answers} a
        LEFT JOIN (SELECT item_id, max(ingestion) AS cut FROM lake.edits {until} GROUP BY item_id) e USING (item_id)
        WHERE coalesce(a.ingestion, 0) >= coalesce(e.cut, 0)"""


def standing_answers(version: int | None = None, among: str = "") -> str:
    """Query for the answers that count: the newest of each annotator to each item, with all columns.

    Answers to an earlier text do not count. The newest answer is the one ingested last, independent of clocks; in
    versions before schema 6, which have no ingestion number, times decide. An answer without a name (or from an
    imported file) replaces all earlier ones and is replaced by the next, since it may be the same person's.

    Args:
        among: A table; only the answers to its items are looked at.
    """
    only = f"SEMI JOIN {among} USING (item_id)" if among else ""
    return _standing(f"({_to_current_texts(f'(FROM ({answers_at(version)}) {only})', version)})")


def _standing(answers: str) -> str:
    """The windows cost four times the rest of the query, so only items with an answer to replace get them."""
    repeated = f"""
        SELECT item_id FROM {answers} GROUP BY item_id
        HAVING count(*) > 1 AND (count(*) > count(DISTINCT annotator) OR bool_or(annotator IN {NAMELESS}))"""
    return f"""
        WITH repeated AS MATERIALIZED ({repeated}), latest AS (
            FROM {answers} SEMI JOIN repeated USING (item_id)
            QUALIFY row_number() OVER (PARTITION BY item_id, annotator
                ORDER BY coalesce(ingestion, 0) DESC, annotated_at DESC, ingested_at DESC, source_file, answer) = 1
        ), numbered AS (
            SELECT *, annotator IN {NAMELESS} AS nameless, row_number() OVER (PARTITION BY item_id
                ORDER BY coalesce(ingestion, 0) DESC, annotated_at DESC, ingested_at DESC, annotator, answer) AS age
            FROM latest
        )
        FROM {answers} ANTI JOIN repeated USING (item_id)
        UNION ALL BY NAME
        SELECT * EXCLUDE (nameless, age) FROM numbered QUALIFY CASE WHEN nameless THEN age = 1
            ELSE age < coalesce(min(age) FILTER (nameless) OVER (PARTITION BY item_id), age + 1) END"""


def adjudicated(version: int | None = None) -> str:
    """Query for the adjudicated items: (item_id, label); NULL if the adjudicator was unsure.

    Items whose adjudicated label was retired or split are left out, so that the other answers decide again.
    """
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    return _adjudicated(f"({_to_current_texts(f'({answers_at(version)})', version)})", at_version)


def _adjudicated(answers: str, at_version: str) -> str:
    return f"""
        SELECT item_id, CASE WHEN answer NOT IN ('unsure', 'skip') THEN answer END AS label FROM (
            SELECT item_id, answer FROM {answers} a JOIN lake.batches b {at_version} USING (batch_id)
            WHERE b.purpose = 'adjudication' QUALIFY row_number() OVER (PARTITION BY item_id
                ORDER BY coalesce(ingestion, 0) DESC, annotated_at DESC, ingested_at DESC, annotator DESC) = 1
        ) WHERE answer IS NOT NULL"""


def out(version: int | None = None) -> str:
    """Query for the items in open batches: (item_id, batch_id, purpose).

    Args:
        version: The lake version to read; None for the newest.
    """
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    return f"""
        SELECT item_id, batch_id, purpose
        FROM lake.batch_items b {at_version} JOIN lake.batches c {at_version} USING (batch_id)
        WHERE status = 'published'"""


def unavailable(version: int | None = None) -> str:
    """Query for the items that are not in the pool: annotated, or in an open batch.

    Args:
        version: The lake version to read; None for the newest.
    """
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    return f"SELECT item_id FROM lake.annotations a {at_version} UNION SELECT item_id FROM ({out(version)})"


def answers_to_batches(among: str) -> str:
    """Query for the number of annotators who answered each of a batch's own items: (batch_id, item_id, n).

    Args:
        among: A table; only the answers to its batches are counted.
    """
    return f"""
        SELECT batch_id, item_id, count(DISTINCT annotator) AS n FROM lake.annotations
        SEMI JOIN {among} USING (batch_id) SEMI JOIN lake.batch_items USING (batch_id, item_id)
        GROUP BY batch_id, item_id"""


def workspace_id(store: Store) -> str:
    """The id of the workspace, assigned when its lake was created or migrated; it moves with the lake."""
    return str(store.rows("SELECT workspace_id FROM lake.workspace")[0][0])


RANK = "xor(('0x' || left(text_hash, 15))::BIGINT, (SELECT max(seed) FROM lake.workspace))"
"""SQL for the rank of a row of `lake.items`: a random integer of 60 bits that never changes."""

OUT = out()
UNAVAILABLE = unavailable()

ASKED = """
    SELECT batch_id, item_id FROM lake.batch_items UNION SELECT batch_id, item_id FROM lake.assignments"""
"""Query for the items of each batch, including gold items: (batch_id, item_id)."""
