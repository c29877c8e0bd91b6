"""Who may use the server of `pal up`: the UI, and whoever knows the password; no web page of another origin."""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from chromium import chromium
from live import Live, brought_up, pal
from waiting import until

from flows.cli.presets import DISASTER, config_text
from tasks.plan import Minimums

ATTACK = """<!doctype html><title>attack</title><script>
const api = "{api}", body = {{state: {{type: "SCHEDULED"}}, job_variables: {{command: "touch {marker}"}}}};
const post = (path, body, headers, mode) =>
    fetch(api + path, {{method: "POST", headers, mode, body: JSON.stringify(body)}});
(async () => {{
    const tried = [];
    const json = {{"Content-Type": "application/json"}};
    for (const attempt of [
        () => post("/deployments/{deployment}/create_flow_run", body, json, "cors"),
        () => post("/deployments/{deployment}/create_flow_run", body, {{"Content-Type": "text/plain"}}, "no-cors"),
        async () => {{
            const token = (await (await fetch(api + "/csrf-token?client=a")).json()).token;
            const own = {{...json, "Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "a"}};
            return post("/deployments/{deployment}/create_flow_run", body, own, "cors");
        }},
    ]) tried.push(await attempt().then(answer => answer.type + answer.status, error => error.name));
    document.title = tried.join(" ");
}})();
</script>"""


def workspace_in(folder: Path) -> Path:
    (folder / "w").mkdir()
    (folder / "w" / "pal.toml").write_text(config_text(DISASTER, Minimums(100, 0, 60)), encoding="utf-8")
    return folder / "w"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("doors")
    with brought_up(workspace_in(folder), folder) as live:
        yield live


def status(url: str, headers: dict[str, str] | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_web_page_of_another_origin_starts_no_run(live: Live, tmp_path: Path) -> None:
    deployment, marker = live.deployment("ingest")["id"], tmp_path / "attacked"
    page = ATTACK.format(api=live.api, deployment=deployment, marker=marker)
    (tmp_path / "attack.html").write_text(page, encoding="utf-8")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        chromium(tmp_path / "browser") as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://localhost:{server.server_port}/attack.html")
        tried = until(lambda: browser.title if browser.title != "attack" else None).split()
        server.shutdown()
    assert tried == ["TypeError", "opaque0", "TypeError"]
    assert live.runs("ingest") == []
    assert not marker.exists()


def test_a_name_that_only_resolves_to_this_machine_is_refused(live: Live) -> None:
    port = live.api.split(":")[2].split("/")[0]
    assert status(f"{live.api}/health", {"Host": f"attacker.example:{port}"}) == 400
    assert status(f"{live.api}/health", {"Host": f"localhost:{port}"}) == 200


def test_a_run_cannot_choose_its_program(live: Live, tmp_path: Path) -> None:
    marker = tmp_path / "chosen"
    wanted = {"command": f"touch {marker}", "env": {"PYTHONSTARTUP": "x"}, "working_dir": str(tmp_path)}
    body = {"state": {"type": "SCHEDULED"}, "job_variables": wanted}
    run = live.ask(f"/deployments/{live.deployment('ingest')['id']}/create_flow_run", body)
    assert live.ended(run["id"]) == "COMPLETED", live.messages(run["id"])
    assert not marker.exists()


def test_a_password_is_asked_of_everybody_and_our_commands_know_it(tmp_path: Path) -> None:
    with brought_up(workspace_in(tmp_path), tmp_path, PREFECT_SERVER_API_AUTH_STRING="admin:secret") as live:
        assert status(f"{live.api}/work_pools/pal") == 401
        (tmp_path / "t.csv").write_text("text\nflood in town\nmarket in town\n", encoding="utf-8")
        assert "2 new items" in pal(live, "import", str(tmp_path / "t.csv"))
        assert "secret" not in live.log.read_text(encoding="utf-8")
