"""`pal submit` without a server that works for the workspace: checked, in the inbox, and what to type next."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from http.server import HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from waiting import QuietHandler

from annotation.synthetic import fill_csv
from flows.cli.annotating import submit
from storage.errors import BatchError
from storage.lake.batches import find_batch
from storage.records import Batch
from tasks.project import Project
from tasks.sample import publish_batches


@pytest.fixture
def batch_file(project: Project, reserve_batch: Callable[..., Batch], tmp_path: Path) -> Path:
    """A batch file of two rows, not filled in."""
    batch = reserve_batch(project.workspace, {"i1": "Floods", "i2": "Tea"})
    publish_batches(project)
    return Path(shutil.copy(project.workspace.batches / batch.batch_id / "batch.csv", tmp_path / "anna.csv"))


def test_a_filled_file_waits_in_the_inbox_with_its_answers_counted(project: Project, batch_file: Path) -> None:
    fill_csv(batch_file, {"i1": "related", "i2": "perhaps"})
    found = submit(project, batch_file, None)
    assert found.answers == {"b0001-training": 1}
    assert ["perhaps" in error for error in found.errors] == [True]
    assert Path(found.place).parent == project.workspace.inbox
    assert found.told is None
    assert "Prefect" in found.untold
    assert find_batch(project.workspace.store(), "b0001-training").n_answered == 0


def test_what_holds_no_answer_is_refused_and_put_nowhere(project: Project, batch_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "list.csv"
    with other.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "headline"), ("1", "Floods")])
    for path in (tmp_path / "nothing.csv", batch_file, other):
        with pytest.raises(BatchError, match=re.escape(path.name)) as refused:
            submit(project, path, None)
        assert str(refused.value).count("Hint: ") == 1
    assert not list(project.workspace.inbox.iterdir())


def test_a_server_that_is_gone_is_said_and_the_file_is_in_the_inbox(project: Project, batch_file: Path) -> None:
    fill_csv(batch_file, {"i1": "related"})
    found = submit(project, batch_file, "http://127.0.0.1:9/api")
    assert found.told is None
    assert "http://127.0.0.1:9/api" in found.untold
    assert Path(found.place).is_file()


class NothingHere(QuietHandler):
    """Answers as a server does that has no such deployment."""

    def do_GET(self) -> None:
        self.send_error(404)


def test_a_server_without_the_deployment_is_said(project: Project, batch_file: Path) -> None:
    fill_csv(batch_file, {"i1": "related"})
    with HTTPServer(("127.0.0.1", 0), NothingHere) as server:
        Thread(target=server.handle_request).start()
        found = submit(project, batch_file, f"http://127.0.0.1:{server.server_port}/api")
    assert found.told is None
    assert all(value in found.untold for value in (str(server.server_port), "ingest"))
