"""Runs of flows: begun, taken from stage to stage, ended; and whether anything is new since the last one."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from storage.literals import bound
from storage.records import Run, RunStatus
from storage.store import Store, in_utc

_COLUMNS = (
    """run_id, flow, status, host, pid, started_at, ended_at, stage, stages, state, model_id, batch_id, message"""
)


def add_run(store: Store, run: Run) -> None:
    """Remember a run that begins."""
    values = [
        run.run_id,
        run.flow,
        run.status.value,
        run.host,
        run.pid,
        in_utc(run.started_at),
        run.ended_at,
        run.stage,
        json.dumps(run.stages),
        run.state,
        run.model_id,
        run.batch_id,
        run.message,
    ]
    places = ", ".join("?" * len(values))
    store.write(
        lambda connection: connection.execute(bound(f"INSERT INTO lake.runs ({_COLUMNS}) VALUES ({places})", values)),
        f"run {run.run_id} begins",
    )


def enter_stage(store: Store, run_id: str, stage: str, stages: dict[str, float]) -> None:
    """Remember in which stage a run is now, and the seconds of those before."""
    store.write(
        lambda connection: connection.execute(
            bound("UPDATE lake.runs SET stage = ?, stages = ? WHERE run_id = ?", [stage, json.dumps(stages), run_id])
        ),
        f"run {run_id}: {stage}",
    )


def end_run(
    store: Store,
    run_id: str,
    status: RunStatus,
    stages: dict[str, float],
    *,
    stage: str | None = None,
    state: str | None = None,
    model_id: str | None = None,
    batch_id: str | None = None,
    message: str = "",
) -> None:
    """Remember how a run ended.

    Args:
        stage: The one it was in, where it ended early.
        state: What `lake_state` gave when it was through.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    store.write(
        lambda connection: connection.execute(
            bound(
                """UPDATE lake.runs SET status = ?, ended_at = ?, stage = ?, stages = ?, state = ?, model_id = ?,
            batch_id = ?, message = ? WHERE run_id = ?""",
                [status.value, now, stage, json.dumps(stages), state, model_id, batch_id, message, run_id],
            ),
        ),
        f"run {run_id} {status.value}",
    )


def recent_runs(store: Store, n: int, *, flow: str | None = None, status: RunStatus | None = None) -> list[Run]:
    """The n newest runs, of one flow or of all, the newest first.

    Args:
        status: Only those that stand there.
    """
    rows = store.rows(
        f"""SELECT {_COLUMNS} FROM lake.runs WHERE flow = coalesce($flow, flow) AND status = coalesce($status, status)
        ORDER BY started_at DESC, run_id DESC LIMIT $n""",
        {"flow": flow, "status": status.value if status else None, "n": n},
    )
    return [_run(row) for row in rows]


def lake_state(store: Store, settings: str) -> str:
    """Hash of all that a run works on: items, answers, batches, the production model, and the settings it is given.

    It is the same as long as a run would do nothing that the one before has not done.
    """
    counted = store.rows(
        """SELECT (SELECT count(*) FROM lake.items), (SELECT count(*) FROM lake.annotations),
            (SELECT CAST(max(ingested_at) AS VARCHAR) FROM lake.annotations),
            (SELECT string_agg(batch_id || ' ' || status, ',' ORDER BY batch_id) FROM lake.batches),
            (SELECT string_agg(model_id, ',' ORDER BY model_id) FROM lake.models WHERE status = 'production')"""
    )
    return hashlib.sha256(json.dumps([settings, *counted[0]]).encode()).hexdigest()[:16]


def _run(row: tuple[Any, ...]) -> Run:
    values = dict(zip((name.strip() for name in _COLUMNS.split(",")), row, strict=True))
    return Run(**{**values, "status": RunStatus(values["status"]), "stages": json.loads(values["stages"])})
