"""Label Studio itself: our file is imported, two people annotate over its API, and its exports are read.

All traffic stays on this machine.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_tools import answers_to, nasty_handout, program
from handouts import answered
from servers import free_port
from waiting import PATIENCE_S, until

from annotation.formats.label_studio import label_studio_config, read_label_studio, write_label_studio
from annotation.label_set import Handout

PASSWORD = "Zq12mnbv"


@pytest.fixture
def handout() -> Handout:
    """What two people are asked."""
    return nasty_handout()


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def answers(url: str) -> bool:
    """Whether the server is up."""
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def good(response: httpx.Response) -> Any:
    assert response.is_success, f"{response.request.url}: {response.status_code} {response.text[:500]}"
    return response.json() if "json" in response.headers.get("content-type", "") and response.content else response


def member(client: httpx.Client, email: str) -> str:
    """Sign up with Label Studio, and the person's token."""
    page = good(client.get("/user/signup/")).text
    found = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found
    form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": found.group(1), "allow_newsletters": "false"}
    client.post("/user/signup/", data=form, headers={"Referer": str(client.base_url)})
    return str(good(client.get("/api/current-user/token"))["token"])


def label_studio_result(answer: str, note: str) -> dict[str, Any]:
    """An annotation as Label Studio's own page sends it."""
    result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [answer]}}]
    if note:
        result.append({"from_name": "note", "to_name": "text", "type": "textarea", "value": {"text": [note]}})
    if answer == "skip":
        return {"result": [], "was_cancelled": True, "lead_time": 1.25}
    return {"result": result, "lead_time": 2.5}


def test_label_studio_gives_back_what_two_people_answered(tmp_path: Path, handout: Handout) -> None:
    command, port = program("label-studio", "label-studio"), free_port()
    given = answers_to(handout, "anna@example.test", "bo@example.test")
    environment = {
        "HOME": str(tmp_path),
        "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path / "data"),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        **dict.fromkeys(("COLLECT_ANALYTICS", "LATEST_VERSION_CHECK"), "false"),
        **dict.fromkeys(("SENTRY_DSN", "FRONTEND_SENTRY_DSN"), ""),
    }
    arguments = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with running([command, *arguments], environment, tmp_path), ExitStack() as clients:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/health"))
        people = {}
        for email in given:
            with httpx.Client(base_url=url, trust_env=False) as client:
                headers = {"Authorization": f"Token {member(client, email)}"}
            client = httpx.Client(base_url=url, trust_env=False, headers=headers, timeout=PATIENCE_S)
            people[email] = clients.enter_context(client)
        anna = people["anna@example.test"]
        body = {"title": "test", "label_config": label_studio_config(handout), "maximum_annotations": 2}
        project = good(anna.post("/api/projects", json=body))["id"]
        write_label_studio(tmp_path / "label-studio.json", handout)
        content = (tmp_path / "label-studio.json").read_bytes()
        good(anna.post(f"/api/projects/{project}/import", files={"file": ("a.json", content, "application/json")}))
        tasks = good(anna.get("/api/tasks", params={"project": project, "page_size": 500}))["tasks"]
        for email, client in people.items():
            for task in tasks:
                if (item_id := task["data"]["item_id"]) in given[email]:
                    body = label_studio_result(*given[email][item_id])
                    good(client.post(f"/api/tasks/{task['id']}/annotations/", json=body))
        good(anna.post(f"/api/tasks/{tasks[-1]['id']}/drafts", json=label_studio_result("related", "")))
        ids = {str(user["id"]): user["email"] for user in good(anna.get("/api/users"))}
        simple = {}
        for kind in ("JSON", "JSON_MIN"):
            parameters = {"exportType": kind, "download_all_tasks": "true"}
            simple[kind] = anna.get(f"/api/projects/{project}/export", params=parameters).content
        options = {"annotations__completed_by": {"only_id": False}, "drafts": {"only_id": False}}
        made = good(anna.post(f"/api/projects/{project}/exports/", json={"serialization_options": options}))["id"]
        place = f"/api/projects/{project}/exports/{made}/download"
        snapshot = until(lambda: (found := anna.get(place)).is_success and found.content)
    (tmp_path / "snapshot.json").write_bytes(snapshot)
    assert answered(read_label_studio(tmp_path / "snapshot.json"), handout) == given
    for kind, content in simple.items():
        (tmp_path / "simple.json").write_bytes(content)
        found = answered(read_label_studio(tmp_path / "simple.json"), handout)
        left_out = "skip" if kind == "JSON_MIN" else ""
        assert {ids[name]: answers for name, answers in found.items()} == {
            name: {item_id: each for item_id, each in answers.items() if each[0] != left_out}
            for name, answers in given.items()
        }
