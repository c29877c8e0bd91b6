"""The files that keep pal up: their systems read them, and the commands in them are ours."""

from __future__ import annotations

import configparser
import plistlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli.commands import app
from flows.server.command_runs import SETTINGS
from flows.server.prefect_api import prefect_file

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def test_the_systemd_unit_starts_pal_up_and_gives_a_night_the_time_to_end(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "pal.service", encoding="utf-8")
    assert unit["Service"]["ExecStart"].endswith("/pal up")
    assert int(unit["Service"]["TimeoutStopSec"]) > 60
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    path = tmp_path / "pal.service"
    text = (DEPLOY / "pal.service").read_text(encoding="utf-8")
    path.write_text(text.replace("/opt/pal/.venv/bin/pal", "/bin/true"), encoding="utf-8")
    ran = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    complaints = [line for line in ran.stderr.splitlines() if "pal.service" in line]
    assert complaints == []


def test_the_launchd_file_starts_pal_up_and_again_when_it_ends() -> None:
    found = plistlib.loads((DEPLOY / "org.pal.up.plist").read_bytes())
    assert found["ProgramArguments"][-1] == "up"
    assert found["KeepAlive"] is True
    assert (DEPLOY / f"{found['Label']}.plist").is_file()


def test_the_image_runs_without_rights_and_its_parts_are_in_the_repository() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    last = text.split("FROM ")[-1]
    assert "USER 1000" in last
    assert "pip" not in last
    settings = re.findall(r"^    ((?:PREFECT|DO)_\w+)=(\S+)", last, re.MULTILINE)
    assert dict(settings) == SETTINGS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {include.rstrip("*") for include in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = packages | {"pyproject.toml", "constraints.txt", "prefect.yaml", project["project"]["readme"], "LICENSE"}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*) ", text, re.MULTILINE) for name in line.split()}
    assert copied == needed
    assert all((ROOT / name).exists() for name in copied)
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    assert set(re.findall(r"^!(.*)$", let_through, re.MULTILINE)) == copied
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["pal"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_pal_command_named_there_exists() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    for path in filter(Path.is_file, DEPLOY.iterdir()):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"`pal ([a-z]+)", text)) <= commands, path


def test_the_deployments_are_found_and_go_along_with_an_installation() -> None:
    assert prefect_file() == ROOT / "prefect.yaml"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"share/pytorch-active-learning" = ["prefect.yaml"]' in text
