"""The files for several machines: what their systems read, in agreement with each other, the code and the docs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import S3

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
BIN = Path(sys.executable).parent
CLUSTER, WORKERS = (
    yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    for name in ("cluster.compose.yaml", "worker.compose.yaml")
)
SERVICES = CLUSTER["services"]
RESOURCES = [each for path in sorted(KUBERNETES.glob("*.yaml")) for each in yaml.safe_load_all(path.read_text("utf-8"))]
OURS = {"pal", "prefect", "dask"}
COMMANDS = ("prefect server start", "prefect worker start", "prefect work-pool create", "prefect deploy")
COMMANDS += ("dask scheduler", "dask worker", "pal up")


def containers() -> Iterator[dict[str, Any]]:
    """Of all Kubernetes resources."""
    for resource in RESOURCES:
        pod = resource.get("spec", {}).get("template", {}).get("spec", {}) if resource["kind"] != "Role" else {}
        yield from (*pod.get("initContainers", []), *pod.get("containers", []))


def commands() -> list[list[str]]:
    """What the image is started with, in any of the files."""
    started = [service.get("command", [""]) for service in (*SERVICES.values(), *WORKERS["services"].values())]
    return [command for command in (*started, *(each["args"] for each in containers())) if command[0] in OURS]


def addresses(text: str) -> set[tuple[str, int]]:
    """Hosts with their ports, but this machine's own."""
    found = re.findall(r"(?:tcp|http)://([a-z0-9.-]+):(\d+)", text)
    return {(host, int(port)) for host, port in found if host != "127.0.0.1"}


@pytest.mark.parametrize("name", ["compose.yaml", "cluster.compose.yaml", "worker.compose.yaml"])
def test_compose_files_are_as_the_compose_specification_wants_them(name: str, tmp_path: Path) -> None:
    check = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    ran = subprocess.run([*check, str(DEPLOY / name)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text((DEPLOY / name).read_text("utf-8").replace("    restart:", "    restarts:"), encoding="utf-8")
    assert subprocess.run([*check, str(broken)], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("named", COMMANDS)
def test_what_the_image_is_started_with_takes_these_options(named: str) -> None:
    words = named.split()
    wide = {**os.environ, "COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"}
    program = [str(BIN / words[0]), *words[1:], "--help"]
    told = subprocess.run(program, capture_output=True, text=True, check=True, env=wide).stdout
    options = set(re.findall(r"--[a-z][a-z-]*", told))
    mine = [command for command in commands() if [word for word in command if word[0] != "-"][: len(words)] == words]
    assert mine, "none of the files starts it"
    assert {word for command in mine for word in command if word.startswith("--")} <= options


def test_every_command_is_among_those_that_were_looked_up() -> None:
    for command in commands():
        bare = " ".join(word for word in command if not word.startswith("-"))
        assert bare.startswith(COMMANDS), command


def test_in_compose_every_address_is_a_service_that_listens_there() -> None:
    inside = {name: {int(port.split(":")[-1]) for port in each.get("ports", [])} for name, each in SERVICES.items()}
    used = addresses((DEPLOY / "cluster.compose.yaml").read_text(encoding="utf-8"))
    assert used == {("s3", 7070), ("scheduler", 8786), ("server", 4200)}
    assert all(port in inside[host] for host, port in used)
    database = SERVICES["server"]["environment"]
    assert int(database["PREFECT_SERVER_DATABASE_PORT"]) in inside[database["PREFECT_SERVER_DATABASE_HOST"]]
    elsewhere = {host for host, _ in addresses((DEPLOY / "worker.compose.yaml").read_text(encoding="utf-8"))}
    known = {line.split(":")[0] for line in WORKERS["services"]["worker"]["extra_hosts"]}
    assert elsewhere | {"postgres"} == known <= set(SERVICES)


def test_ports_are_open_to_this_machine_or_to_the_address_that_is_named_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert {int(port.split(":")[-1]) for port in ports} == {5432, 7070, 4200, 8786, 8787}
    assert all(port.startswith(("127.0.0.1:", "${PAL_BIND:-127.0.0.1}:")) for port in ports)


def test_every_service_comes_back_and_says_whether_it_is_well() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("on-failure" if name == "bucket" else "unless-stopped")
        assert service["healthcheck"].get("disable", False) is (name == "bucket")
        for waited_for, how in service.get("depends_on", {}).items():
            ended = how["condition"] == "service_completed_successfully"
            assert ended is (waited_for == "bucket"), f"{name} waits for {waited_for}"


def test_workers_elsewhere_are_given_what_those_beside_the_scheduler_are() -> None:
    near, far = SERVICES["worker"], WORKERS["services"]["worker"]
    assert far["environment"] == near["environment"] == CLUSTER["x-work"]
    assert far["image"] == near["image"] == SERVICES["pal"]["image"]
    assert far["command"][:3] == near["command"][:3]
    (pod,) = (each for each in containers() if each["args"][:2] == ["dask", "worker"])
    assert pod["args"] == near["command"]
    assert not any("PREFECT" in name for name in near["environment"]), "workers know nothing of Prefect"
    assert "env" not in pod


def test_storage_is_named_as_its_clients_read_it_and_secrets_come_from_outside() -> None:
    server = S3("http://127.0.0.1", None)  # type: ignore[arg-type]
    storage = {"PGPASSWORD", *server.environment}
    assert set(CLUSTER["x-work"]) == storage
    example = (DEPLOY / "cluster.env.example").read_text(encoding="utf-8")
    there = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    for name in ("cluster.compose.yaml", "worker.compose.yaml"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        assert set(re.findall(r"\$\{([A-Z_]+)", text)) - {"PAL_WORKERS"} <= there
        assert re.findall(r"(?:PASSWORD|SECRET_ACCESS_KEY|KEY_ID): (?!\$\{PAL_\w+:\?)", text) == []
    assert not re.search(r"^PAL_\w+=.", example, re.MULTILINE), "no secret is in the repository"
    names = {path.name: set(re.findall(r"^(\w+)=$", path.read_text("utf-8"), re.MULTILINE)) for path in env_examples()}
    assert names["storage.env.example"] == storage - {"AWS_EC2_METADATA_DISABLED"}
    in_compose = set(SERVICES["server"]["environment"])
    in_kubernetes = {each["name"] for pod in containers() if pod["name"] == "server" for each in pod["env"]}
    assert names["server.env.example"] | in_kubernetes == in_compose


def env_examples() -> list[Path]:
    return sorted(KUBERNETES.glob("*.env.example"))


def test_git_leaves_the_secrets_out() -> None:
    for path in [DEPLOY / ".env", *(path.with_suffix("") for path in env_examples())]:
        ran = subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=ROOT, check=False)
        assert ran.returncode == 0, path


def test_the_settings_in_the_readme_lead_to_what_the_compose_file_starts() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    block, _ = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    told = tomllib.loads(block)
    database = SERVICES["postgres"]["environment"]
    catalog = dict(word.split("=") for word in told["lake"]["catalog"].removeprefix("postgres:").split())
    assert catalog == {"host": "postgres", "user": database["POSTGRES_USER"], "dbname": database["POSTGRES_DB"]}
    (bucket,) = re.findall(r'create_dir\("(\w+)"\)', SERVICES["bucket"]["command"][-1])
    assert {told["lake"]["data"].split("/")[2], told["files"]["root"].split("/")[2]} == {bucket}
    assert told["scale"]["address"] in SERVICES["worker"]["command"]


def test_the_extra_that_the_image_is_built_with_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for compose in (SERVICES["pal"], WORKERS["services"]["worker"]):
        assert compose["build"]["args"]["EXTRAS"] in extras


def test_in_kubernetes_every_address_is_a_service_with_a_container_that_listens_there() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in RESOURCES if each["kind"] == "Service"}
    pods = {each["metadata"]["name"]: each["spec"] for each in RESOURCES if each["kind"] == "Deployment"}
    text = "".join(path.read_text(encoding="utf-8") for path in KUBERNETES.glob("*.yaml"))
    for host, port in addresses(text):
        assert port in {each["port"] for each in services[host]["ports"]}
    for name, service in services.items():
        assert service["selector"] == pods[name]["template"]["metadata"]["labels"]
        (container,) = pods[name]["template"]["spec"]["containers"]
        assert {each["port"] for each in service["ports"]} == {each["containerPort"] for each in container["ports"]}
    for pod in pods.values():
        assert pod["selector"]["matchLabels"] == pod["template"]["metadata"]["labels"]


def test_the_job_template_asks_for_nothing_that_is_not_there() -> None:
    text = (KUBERNETES / "base-job-template.json").read_text(encoding="utf-8")
    template = json.loads(text)
    assert set(re.findall(r"\{\{ (\w+) \}\}", text)) == set(template["variables"]["properties"])
    (job,) = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    kustomization = next(each for each in RESOURCES if each["kind"] == "Kustomization")
    image = next(iter(kustomization["images"]))
    assert template["variables"]["properties"]["image"]["default"] == f"{image['newName']}:{image['newTag']}"
    assert template["variables"]["properties"]["namespace"]["default"] == kustomization["namespace"]
    worker = next(each for each in containers() if each["args"][:2] == ["dask", "worker"])
    assert (job["envFrom"], job["volumeMounts"]) == (worker["envFrom"], worker["volumeMounts"])
    made = set(
        re.findall(r"create (?:configmap|secret generic) (\w+)", (ROOT / "docs" / "deploy.md").read_text("utf-8"))
    )
    assert made == {"workspace", "storage", "server"}
    named = {each["secretRef"]["name"] for pod in containers() for each in pod.get("envFrom", [])}
    assert named | {"workspace"} == made


def test_kustomize_puts_the_manifests_together() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    ran = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(ran.stdout))
    assert len(built) == len(RESOURCES), "all of them, and the ConfigMap in place of the kustomization"
    assert {each["metadata"].get("namespace") for each in built} == {"pal"}
    assert "image: pal-cluster" not in ran.stdout
