"""`pal up` and `pal down`: start, supervise and stop the server, the deployments and the worker of a workspace.

Nightly runs that were missed while no worker was up are replaced by a single run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.log_lines import json_line
from flows.server import prefect_api
from flows.server.command_runs import SETTINGS, crash_killed_commands
from flows.server.guarded_app import LOOPBACK
from flows.server.prefect_api import AUTH_STRING, COMMAND_TAG, ask
from flows.server.processes import Child, Up, born_at, end_group, end_left, found_up, start, up_file, write_up
from storage.errors import ServiceError
from tasks.project import Project

PREFECT = (sys.executable, "-m", "prefect")
START_S = 240
LONGEST_PAUSE_S = 60.0
STABLE_S = 300.0
NAMING_S = 30.0
_WORKER_LINE = re.compile(r"^(\d\d:\d\d:\d\d)\.\d+ \| (\w+) +\| (.*)$")
_HIDDEN_LINES = re.compile(
    r"^Task run .*Finished in state Completed|eployment (pull )?step|Opening process|View at http|submitting flow run"
    r"|submitted to infrastructure|Completed submission|Process for flow run|Beginning flow run"
)


class Service:
    """The server and the worker of a workspace; `run` keeps them running until a signal."""

    def __init__(self, project: Project, host: str | None = None, port: int | None = None) -> None:
        config = project.config.server
        self.project, self.host, self.port = project, host or config.host, port or config.port
        self.external_api = os.environ.get("PREFECT_API_URL")
        local_host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        self.api = self.external_api or f"http://{local_host}:{self.port}/api"
        self.ui = prefect_api.ui_of(self.api)
        self.folder = up_file(project).parent
        self.folder.mkdir(exist_ok=True)
        self.home = project.workspace.root / config.home
        self.home.mkdir(parents=True, exist_ok=True)
        self.worker_name = f"pal on {socket.gethostname()}"
        self.own_worker = self.worker_name if self.external_api else None  # an external server may have others
        self.children: dict[str, Child] = {}
        self.stop_requested = False
        self._log_position = 0

    def run(self) -> None:
        """Start everything and keep it running; at Ctrl-C or SIGTERM, stop everything and return.

        Raises:
            ServiceError: The server, the deployments or the worker cannot be started.
        """
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: self._request_stop())
        end_left(self.project)
        try:
            self._start_server()
            self._deploy()
            self._start_worker()
            self._write(ready=True)
            self._greet()
            self._watch()
        except _StopRequestedError:
            pass  # while something was starting
        finally:
            self._stop()

    def _start_server(self) -> None:
        if self.external_api:
            say("up", f"Prefect server: {self.api} (PREFECT_API_URL)")
            return
        self._check_access()
        _check_port(self.host, self.port)
        say("up", f"starting the server on port {self.port} ...")
        command = [sys.executable, "-P", "-m", "flows.server.guarded_app", self.host, str(self.port)]
        self._start("server", command)
        self._wait_for("server", lambda: prefect_api.answers(self.api, 2.0))

    def _check_access(self) -> None:
        """Refuse to serve the network without a password: clients of the server can run programs on this machine.

        Raises:
            ServiceError: The host is not a loopback name, and no password is set.
        """
        if self.host not in LOOPBACK and not os.environ.get(AUTH_STRING):
            raise ServiceError(
                f"The server on {self.host} would be open to everyone who can reach this machine.",
                hint=f"Set a password: export {AUTH_STRING}='admin:a-long-password'; then: pal up --host {self.host}",
            )

    def _deploy(self) -> None:
        prefect_api.make_pool(self.api)
        command = [*PREFECT, "deploy", "--all", "--prefect-file", str(prefect_api.prefect_file())]
        ran = subprocess.run(
            command, env=self._environment(), cwd=self.project.workspace.root, capture_output=True, check=False
        )
        output = (ran.stdout + ran.stderr).decode(errors="replace")
        (self.folder / "deploy.log").write_text(output, encoding="utf-8")
        if ran.returncode:
            hint = f"See the whole output: {self.folder}/deploy.log"
            raise ServiceError(f"The flows cannot be deployed:\n{output[-2000:]}", hint=hint)

    def _start_worker(self) -> None:
        self._crash_unfinished_runs()
        command = [*PREFECT, "worker", "start", "--pool", prefect_api.POOL, "--name", self.worker_name, "--limit", "1"]
        self._start("worker", command)
        self._wait_for("worker", lambda: prefect_api.worker_is_online(self.api, self.worker_name))

    def _crash_unfinished_runs(self) -> None:
        """Mark the unfinished runs of a dead worker as crashed; at the start, run an interrupted nightly again once.

        While the interrupted run kept its slot, Prefect cancelled all later ones, so that none may be scheduled.
        """
        crashed = prefect_api.crash_left_runs(self.api, self.own_worker)
        for name, _ in crashed:
            say("up", f"Run {name!r} was interrupted and is marked as crashed; the next run will complete its work.")
        for name, _ in crash_killed_commands(self.api):
            say("up", f"The command that executed {name!r} was killed; the run is marked as crashed.")
        if "worker" not in self.children and any(flow == "nightly" for _, flow in crashed):
            prefect_api.start_run(self.api, "nightly")

    def _greet(self) -> None:
        schedule = self.project.config.schedule
        night = f"{schedule.next_night(datetime.now(UTC)):%Y-%m-%d %H:%M} {schedule.timezone} ({schedule.nightly})"
        is_active = prefect_api.has_active_schedule(self.api, "nightly")
        say("up", f"UI              {self.ui}")
        if not self.external_api:
            password = f"only with the password in {AUTH_STRING}" if os.environ.get(AUTH_STRING) else "no password"
            scope = "from this machine only" if self.host in LOOPBACK else f"from the network ({self.host})"
            say("up", f"access          {scope}, {password}; web pages of other origins are refused")
        say("up", f"next nightly    {night if is_active else 'none: it was switched off in the UI'}")
        say("up", f"workspace       {self.project.workspace.root}")
        say("up", f"logs            {self.folder}")
        say("up", "stop            Ctrl-C here, or elsewhere: pal down")

    def _watch(self) -> None:
        """Show the log of the worker, and restart processes that end, after increasing pauses if they end early."""
        pause, last, named_at = 1.0, time.monotonic(), -NAMING_S
        while not self.stop_requested:
            self._show_worker_log()
            if time.monotonic() > named_at + NAMING_S:
                named_at = time.monotonic()
                with contextlib.suppress(OSError):  # the server is restarting
                    prefect_api.name_nights(self.api, self.project.config.schedule.zone)
            for name, child in list(self.children.items()):
                if child.ended:
                    pause = 1.0 if time.monotonic() - last > STABLE_S else min(2 * pause, LONGEST_PAUSE_S)
                    say(
                        "up", f"the {name} ended with exit code {child.process.returncode}; restarting in {pause:.0f} s"
                    )
                    end_group(child.process.pid, child.folder)
                    self._sleep(pause)
                    self._restart(name, child)
                    last = time.monotonic()
            self._sleep(0.5)

    def _restart(self, name: str, child: Child) -> None:
        try:
            if name == "worker":
                self._start_worker()
            else:
                self._start(name, child.command)
                self._wait_for(name, lambda: prefect_api.answers(self.api, 2.0))
        except (ServiceError, OSError) as error:  # `_watch` tries again
            say("up", f"the {name} does not start: {error}")
        else:
            self._write(ready=True)
            say("up", f"the {name} is up again")

    def _start(self, name: str, command: Sequence[str]) -> None:
        log = self.folder / f"{name}.log"
        if name == "worker":
            self._log_position = log.stat().st_size if log.exists() else 0
        self.children[name] = start(command, log, self._environment(), self.project.workspace.root)
        self._write(ready=False)

    def _wait_for(self, name: str, is_ready: Callable[[], bool]) -> None:
        child, deadline = self.children[name], time.monotonic() + START_S
        while not _is_true(is_ready):
            if self.stop_requested:
                raise _StopRequestedError
            if child.ended or time.monotonic() > deadline:
                raise ServiceError(
                    f"The {name} does not start. The end of {child.log}:\n{child.tail()}",
                    hint="Fix the cause and run the command again: pal up",
                )
            time.sleep(0.25)

    def _stop(self) -> None:
        """Stop the worker, mark its unfinished runs as crashed, then stop the server."""
        if worker := self.children.get("worker"):
            say("up", "stopping the worker ...")
            worker.stop()
            if prefect_api.answers(self.api, 2.0):
                prefect_api.crash_left_runs(self.api, self.own_worker)
        if server := self.children.get("server"):
            say("up", "stopping the server ...")
            server.stop()
        up_file(self.project).unlink(missing_ok=True)
        say("up", "down")

    def _show_worker_log(self) -> None:
        log = self.folder / "worker.log"
        with log.open("rb") as file:
            file.seek(self._log_position)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        self._log_position += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            match = _WORKER_LINE.match(line)
            if match and not _HIDDEN_LINES.search(match[3]):
                level = "" if match[2] == "INFO" else f"{match[2].lower()}: "
                say("worker", f"{match[1]}  {level}{match[3]}")

    def _write(self, *, ready: bool) -> None:
        groups = {name: (child.process.pid, born_at(child.process.pid)) for name, child in self.children.items()}
        write_up(self.project, Up(os.getpid(), self.api, self.ui, ready, groups))

    def _environment(self) -> dict[str, str]:
        schedule = self.project.config.schedule
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        if self.external_api:  # the user's settings for that server, including an API key
            kept |= {name: value for name, value in os.environ.items() if name.startswith("PREFECT_API_")}
        else:
            kept |= self._protection()
        return {
            **kept,
            **SETTINGS,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api,
            "PREFECT_UI_URL": self.ui,
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_CLI_COLORS": "false",
            "PREFECT_LOGGING_COLORS": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",
            "PAL_WORKSPACE": str(self.project.workspace.root),
            "PAL_SCHEDULE_CRON": schedule.nightly,
            "PAL_SCHEDULE_TIMEZONE": schedule.timezone,
        }

    def _protection(self) -> dict[str, str]:
        """Return the settings that admit the UI and clients with the password, but no other web pages."""
        hosts = LOOPBACK if self.host in LOOPBACK else (self.host, *LOOPBACK)
        password = os.environ.get(AUTH_STRING)
        return {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}:{self.port}" for host in hosts),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            **({AUTH_STRING: password, "PREFECT_API_AUTH_STRING": password} if password else {}),
        }

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stop_requested and time.monotonic() < deadline:
            time.sleep(0.1)

    def _request_stop(self) -> None:
        self.stop_requested = True


class _StopRequestedError(Exception):
    """A signal arrived while a process was starting."""


def start_in_background(project: Project, host: str | None, port: int | None) -> Path:
    """Start `pal up` in the background, wait until it is ready, and return the path of its log.

    Raises:
        ServiceError: It does not start; the message is the end of its log.
    """
    command = [sys.executable, "-m", "flows.cli.main", "up", "--workspace", str(project.workspace.root)]
    command += ["--host", host] if host else []
    command += ["--port", str(port)] if port else []
    log = up_file(project).with_name("up.log")
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    child = start(command, log, os.environ, project.workspace.root)
    while not ((up := found_up(project)) and up.ready and up.pid == child.process.pid):
        if child.ended:
            raise ServiceError(child.tail(), hint="Fix this and run the command again.")
        time.sleep(0.25)
    return log


def say(source: str, message: str) -> None:
    """Print a line on stdout, as JSON if $PAL_LOG is `json`."""
    if os.environ.get("PAL_LOG") == "json":
        print(json_line("INFO", source, message), flush=True)
    else:
        print(message, flush=True)


def _is_true(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:
        return False


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceError(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                hint=f"Use another port: pal up --port {port + 1}, or set [server] port in pal.toml.",
            ) from error


log = logging.getLogger(__name__)


def cancel_missed(api: str, deployment_id: str, run_id: str) -> int:
    """Cancel the other overdue runs of a deployment; return their number.

    Runs that a command has created are not cancelled: the command is waiting for its slot.

    Args:
        api: The API URL of the server.
        deployment_id: The deployment.
        run_id: The run that does the work of the missed ones.
    """
    filters = {
        "deployments": {"id": {"any_": [deployment_id]}},
        "flow_runs": {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": datetime.now(UTC).isoformat()},
        },
    }
    overdue = ask(api, "/flow_runs/filter", filters)
    missed = [run for run in overdue if run["id"] != run_id and COMMAND_TAG not in run["tags"]]
    state = {
        "type": "CANCELLED",
        "name": "Cancelled",
        "message": f"Missed while no worker was up; run {run_id} does its work.",
    }
    for run in missed:
        ask(api, f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    if missed:
        runs = "1 scheduled run was" if len(missed) == 1 else f"{len(missed):,} scheduled runs were"
        log.warning("%s missed while no worker was up; this run does the work.", runs)
    return len(missed)
