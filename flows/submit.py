"""`pal submit`: a filled file looked through, put into the inbox, and the ingest flow of a running server told."""

from __future__ import annotations

import urllib.error
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath

from annotation.checks import FilledFile
from annotation.inbox import BatchChecks
from annotation.submission import check_file, into_inbox
from flows.server.prefect_api import ask
from storage.errors import BatchError
from tasks.project import Project

EVENT, RESOURCE = "pal.batch.submitted", "pal.inbox"
"""As in prefect.yaml, where they start the ingest flow."""


@dataclass(frozen=True)
class Submission:
    """What became of a file.

    Attributes:
        answers: Answers that can be taken, by batch.
        errors: Rows that cannot, in words; ingest lists them beside the file.
        place: Where it lies in the inbox: a path, or the URI in the one that several machines share.
        told: The server that starts the ingest flow for it; None where there is none.
        untold: Why there is none, in words.
    """

    file: str
    answers: dict[str, int]
    errors: list[str]
    place: str
    told: str | None
    untold: str = ""


def submit(project: Project, path: Path, api: str | None) -> Submission:
    """Check a file, put it into the inbox, and send the event that starts the ingest flow.

    Args:
        api: Of the Prefect server to tell; None where none is running.

    Raises:
        BatchError: There is no such file, or it cannot be read, or it holds no answer; nothing is put anywhere.
    """
    if not path.is_file():
        raise BatchError(f"there is no file {path}.", hint="name a filled batch file: pal submit batch-anna.csv")
    project.workspace.pull()
    found = check_file(BatchChecks(project.workspace, project.config.task), FilledFile(path, in_inbox=True))
    if not found.answers and not found.errors:
        why = "; ".join(found.unreadable) or f"{path} holds no answer."
        raise BatchError(why, hint="fill the label column in, then: pal submit FILE")
    workspace = project.workspace
    place = workspace.hand_in(path) if workspace.files else str(into_inbox(workspace, path))
    untold = tell_server(api, project, place) if api else "no Prefect server is running"
    return Submission(
        str(path),
        {batch_id: len(answers) for batch_id, answers in found.answers.items()},
        [str(error) for error in found.errors] + found.unreadable,
        place,
        None if untold else api,
        untold,
    )


def tell_server(api: str, project: Project, place: str) -> str:
    """Send the event that a file was submitted; returns why that starts nothing, empty where it does."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {"prefect.resource.id": RESOURCE, "prefect.resource.name": str(project.workspace.inbox)},
        "payload": {"workspace": str(project.workspace.root), "file": PurePath(place).name},
    }
    try:
        deployed = ask(api, "/deployments/name/ingest/ingest")
        if deployed["parameters"].get("workspace") != str(project.workspace.root):
            return f"the server at {api} works for {deployed['parameters'].get('workspace')}"
        ask(api, "/events", [event])
    except urllib.error.HTTPError as error:
        error.close()
        return f"the server at {api} has no ingest deployment" if error.code == 404 else f"{api} answers {error.code}"
    except OSError as error:
        return f"{api} does not answer: {error}"
    return ""
