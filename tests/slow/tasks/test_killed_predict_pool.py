"""Predictions of a pool that are killed go on where they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_predict_pool import filled, filled_once, killed, predicted, rows_of, trained

from storage.lake.models import production_model
from storage.workspace import Workspace
from tasks import predict_pool as room


def test_after_a_kill_the_rest_is_done_and_the_file_is_the_same_to_the_byte(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "ROWS", 100)
    predicted(filled, "undisturbed.parquet")
    killed(filled)
    calls: list[int] = []
    written = room._predicted
    monkeypatch.setattr(room, "_predicted", lambda *given: calls.append(1) or written(*given))  # type: ignore[func-returns-value]
    with caplog.at_level("INFO"):
        assert predicted(filled, "all.parquet").n == 303
    assert len(calls) == 2, "two of four parts were there"
    assert ".all.parquet.parts" in caplog.text, "what is done already"
    assert (filled.root / "all.parquet").read_bytes() == (filled.root / "undisturbed.parquet").read_bytes()
    assert not (filled.root / ".all.parquet.parts").exists()


def test_after_a_kill_nothing_is_mixed_with_another_model_or_another_lake(
    filled: Workspace, give_labels: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    killed(filled)
    before = production_model(filled.store())
    give_labels(filled, dict.fromkeys(("i1", "i2", "i3"), "related"))
    model_id = trained(filled)
    assert model_id != before.model_id
    with caplog.at_level("WARNING"):
        predicted(filled, "all.parquet")
    warnings = [record.name for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["tasks.predict_pool"]
    assert {row["model_id"] for row in rows_of(filled.root / "all.parquet")} == {model_id}
