"""The tools themselves: our file is imported, two people annotate over the tool's API, and its export is read.

Runs where the tools are, each in an environment of its own (they want other versions of much): `PAL_LABEL_STUDIO` and
`PAL_DOCCANO` name their commands, `PAL_ARGILLA_PYTHON` a Python that has the SDK. All traffic stays on this machine.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from handouts import IDS, LABELS, NASTY, answered

from annotation.exchange.argilla import argilla_settings, read_argilla, write_argilla
from annotation.exchange.doccano import doccano_annotator, doccano_labels, read_doccano, write_doccano
from annotation.exchange.label_studio import label_studio_config, read_label_studio, write_label_studio
from annotation.handout import Handout
from storage.records import BatchItem
from storage.text_hash import text_hash

START_S = 180
PASSWORD = "Zq12mnbv"
INSTALL = {
    "PAL_LABEL_STUDIO": "python3.11 -m venv ls && ls/bin/pip install label-studio==1.23.0",
    "PAL_DOCCANO": "python3.10 -m venv doccano && doccano/bin/pip install doccano==1.8.4 'setuptools<70' 'numpy<2' "
    "'marshmallow<3.24' 'django-health-check<3.18' 'celery<5.4' 'pydantic<2.6'",
    "PAL_ARGILLA_PYTHON": "python3.11 -m venv argilla && argilla/bin/pip install argilla==2.8.0 requests",
}
Given = dict[str, dict[str, tuple[str, str]]]


def tool(variable: str, command: str = "") -> str:
    """The tool's command, or the test is skipped."""
    found = os.environ.get(variable) or (shutil.which(command) if command else None)
    if not found:
        pytest.skip(f"{variable} names no {command or 'Python with the Argilla SDK'}; to have one: {INSTALL[variable]}")
    return found


@pytest.fixture(scope="module")
def handout() -> Handout:
    """Nasty texts and ids, one of them with answers so far."""
    ids = [*IDS, *(f"i{n}" for n in range(len(NASTY)))]
    items = [BatchItem(ids[n], text, text_hash(text), "bo: related" if n == 3 else "") for n, text in enumerate(NASTY)]
    return Handout("b0001-training", LABELS, items)


def answers_to(handout: Handout, first: str, second: str) -> Given:
    """What two people answer: everything but two items, and the second not what the first does."""
    names = [*LABELS.names, "unsure", "skip"]
    ids = [item.item_id for item in handout.items][:-2]
    return {
        name: {
            item_id: (answer, "" if answer == "skip" or n % 3 else f"note {n}\nof {name}")
            for n, item_id in enumerate(ids)
            for answer in [names[(n + shift) % len(names)]]
        }
        for name, shift in ((first, 0), (second, 2))
    }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def until(ready: Callable[[], Any], seconds: float = 60) -> Any:
    """What `ready` returns once it is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(httpx.TransportError):  # not up yet
            if found := ready():
                return found
        time.sleep(0.5)
    raise AssertionError(f"nothing within {seconds} s")


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
    command, port = tool("PAL_LABEL_STUDIO", "label-studio"), free_port()
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
        until(lambda: httpx.get(f"{url}/health", trust_env=False).is_success, START_S)
        people = {}
        for email in given:
            with httpx.Client(base_url=url, trust_env=False) as client:
                headers = {"Authorization": f"Token {member(client, email)}"}
            client = httpx.Client(base_url=url, trust_env=False, headers=headers, timeout=60)
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


@contextmanager
def doccano_member(url: str, name: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/v1", trust_env=False, timeout=60) as client:
        good(client.post("/auth/login/", json={"username": name, "password": PASSWORD}))
        client.headers["X-CSRFToken"] = client.cookies.get("csrftoken") or ""
        yield client


def doccano_project(anna: httpx.Client, handout: Handout, folder: Path) -> str:
    """A project with our labels and items, and bo as an annotator in it; its path."""
    kind = {"project_type": "DocumentClassification", "resourcetype": "TextClassificationProject", "tags": []}
    ways = {"random_order": False, "collaborative_annotation": False, "single_class_classification": True}
    body = {"name": "test", "description": "test", "guideline": "", **kind, **ways}
    project = f"/projects/{good(anna.post('/projects', json=body))['id']}"
    labels = {"file": ("labels.json", doccano_labels(handout).encode())}
    good(anna.post(f"{project}/category-type-upload", files=labels))
    write_doccano(folder / "doccano.jsonl", handout)
    files = {"filepond": ("doccano.jsonl", (folder / "doccano.jsonl").read_bytes())}
    uploaded = good(anna.post("/fp/process/", files=files, data={"filepond": "{}"})).text
    body = {"format": "JSONL", "task": "DocumentClassification", "uploadIds": [uploaded], "encoding": "Auto"}
    body |= {"column_data": "text", "column_label": "label"}
    task = good(anna.post(f"{project}/upload", json=body))["task_id"]
    done = until(lambda: (found := good(anna.get(f"/tasks/status/{task}")))["ready"] and found)
    assert done["result"] == {"error": []}
    created = {"username": "bo@example.test", "password1": PASSWORD, "password2": PASSWORD}
    bo = good(anna.post("/users/create", json=created))["id"]
    role = next(each["id"] for each in good(anna.get("/roles")) if each["name"] == "annotator")
    good(anna.post(f"{project}/members", json={"user": bo, "role": role}))
    return project


def doccano_export(anna: httpx.Client, project: str, *, confirmed: bool) -> zipfile.ZipFile:
    body = {"format": "JSONL", "exportApproved": confirmed}
    task = good(anna.post(f"{project}/download", json=body))["task_id"]

    def archive() -> bytes | None:
        found = anna.get(f"{project}/download", params={"taskId": task})
        return found.content if found.content.startswith(b"PK") else None

    return zipfile.ZipFile(io.BytesIO(until(archive)))


def test_doccano_gives_back_what_two_people_answered(tmp_path: Path, handout: Handout) -> None:
    command, port = Path(tool("PAL_DOCCANO", "doccano")), free_port()
    python = str(command.with_name("python"))
    find = "import importlib.util as u; print(u.find_spec('backend').submodule_search_locations[0])"
    backend = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    environment = {
        "DOCCANO_HOME": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "MEDIA_ROOT": str(tmp_path / "media"),
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "PYTHONPATH": backend,
        "STANDALONE": "True",
        "DEBUG": "False",
    }
    for arguments in (["init"], ["createuser", "--username", "anna", "--password", PASSWORD]):
        made = subprocess.run(
            [command, *arguments], env={**os.environ, **environment}, cwd=tmp_path, capture_output=True
        )
        assert made.returncode == 0, made.stderr.decode()[-2000:]
    # `doccano webserver` listens to the whole network.
    web = [python, f"{backend}/manage.py", "runserver", f"127.0.0.1:{port}", "--noreload"]
    worker = [python, "-m", "celery", "--app=config", f"--workdir={backend}", "worker", "--pool=solo"]
    given = answers_to(handout, "anna", "bo@example.test")
    with running(web, environment, tmp_path), running(worker, environment, tmp_path), ExitStack() as clients:
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(f"{url}/v1/me", trust_env=False).status_code < 500, START_S)
        anna = clients.enter_context(doccano_member(url, "anna"))
        project = doccano_project(anna, handout, tmp_path)
        types = {each["text"]: each["id"] for each in good(anna.get(f"{project}/category-types"))}
        examples = good(anna.get(f"{project}/examples", params={"limit": 500}))["results"]
        bo = clients.enter_context(doccano_member(url, "bo@example.test"))
        for name, client in (("anna", anna), ("bo@example.test", bo)):
            for example in examples:
                answer, note = given[name].get(example["meta"]["item_id"], ("", ""))
                if not answer:
                    continue
                place = f"{project}/examples/{example['id']}"
                good(client.post(f"{place}/categories", json={"label": types[answer]}))
                good(client.post(f"{place}/states"))
                if note:
                    body = {"text": note, "example": example["id"]}
                    good(client.post(f"{project}/comments", params={"example": example["id"]}, json=body))
        archives = [doccano_export(anna, project, confirmed=confirmed) for confirmed in (False, True)]
    for archive in archives:
        found: Given = {}
        for name in archive.namelist():
            (tmp_path / "part.jsonl").write_bytes(archive.read(name))
            rows = read_doccano(tmp_path / "part.jsonl", annotator=doccano_annotator(name))
            found |= answered(rows, handout)
        assert found == given


ARGILLA = """
import json, sys, uuid
from argilla._api._client import APIClient
APIClient._validate_connection = lambda self: None  # no server: only what the SDK itself reads and writes
import argilla as rg
from argilla.records._io import GenericIO, JsonIO
rg.Argilla(api_url="http://127.0.0.1:1", api_key="none.none")
folder, given = sys.argv[1], json.load(open(f"{sys.argv[1]}/given.json", encoding="utf-8"))
settings = rg.Settings.from_json(f"{folder}/settings.json")
settings.validate()
assert [option["value"] for option in settings.serialize()["questions"][0]["settings"]["options"]][-1] == "unsure"
records = JsonIO._records_from_json(f"{folder}/argilla.json")
for record in records:
    assert set(record.metadata) == {each.name for each in settings.metadata}
    assert set(record.fields.to_dict()) == {each.name for each in settings.fields}
    for user, answers in given.items():
        answer, note = answers.get(record.id, ("", ""))
        status = "discarded" if answer == "skip" else "submitted"
        for question, value in (("label", None if answer == "skip" else answer), ("note", note or None)):
            if answer and (value or question == "label"):
                record.responses.add(rg.Response(question, value, user_id=uuid.UUID(user), status=status))
json.dump(GenericIO.to_list(records, flatten=True), open(f"{folder}/flat.json", "w"))
JsonIO.to_json(records, f"{folder}/nested.json")
"""


def test_argillas_sdk_gives_back_what_two_people_answered(tmp_path: Path, handout: Handout) -> None:
    python = tool("PAL_ARGILLA_PYTHON")
    given = answers_to(handout, *(f"00000000-0000-0000-0000-00000000000{end}" for end in "ab"))
    write_argilla(tmp_path / "argilla.json", handout)
    (tmp_path / "settings.json").write_text(argilla_settings(handout), encoding="utf-8")
    (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "ARGILLA_ENABLE_TELEMETRY": "0",
    }
    ran = subprocess.run([python, "-c", ARGILLA, tmp_path], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert answered(read_argilla(tmp_path / "flat.json"), handout) == given
    (anna, answers), _ = given.items()
    unskipped = {item_id: each for item_id, each in answers.items() if each[0] != "skip"}
    nested = json.loads((tmp_path / "nested.json").read_text(encoding="utf-8"))
    for record in nested:  # as the server says of records that one response completes
        ours = {
            question: [each for each in responses if each["user_id"] == anna]
            for question, responses in record["responses"].items()
        }
        record["responses"] = ours if record["id"] in unskipped else {}
        record["status"] = "completed" if record["responses"] else "pending"
    (tmp_path / "nested.json").write_text(json.dumps(nested), encoding="utf-8")
    assert answered(read_argilla(tmp_path / "nested.json"), handout) == {anna: unskipped}
