"""A small cluster for tests: PostgreSQL, an S3 server, Prefect's server on PostgreSQL, a Dask scheduler, two workers.

Where this machine allows it the scheduler and each worker are hosts of their own (network namespaces on a bridge), each
with its own address. Elsewhere all of them share 127.0.0.1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import S3, Postgres, free_port, postgres_server, s3_server, wait_for

ROOT = Path(__file__).parents[1]
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "OMP_NUM_THREADS": "1",  # the machines that run these tests have few cores, and everything runs on one
}


@dataclass
class Network:
    """Hosts on one machine.

    Attributes:
        name: Of the bridge and, with a number, of the hosts; empty where all share 127.0.0.1.
        prefix: The first three parts of all addresses.
    """

    name: str
    prefix: str
    hosts: list[str] = field(default_factory=list)

    @property
    def here(self) -> str:
        """The address under which all others reach this process's host."""
        return f"{self.prefix}.1" if self.name else "127.0.0.1"

    def host(self) -> tuple[str, list[str]]:
        """A new host: its address, and what to put before a command so that it runs there."""
        if not self.name:
            return "127.0.0.1", []
        number = len(self.hosts) + 2
        inside, outside, address = f"{self.name}n{number}", f"{self.name}v{number}", f"{self.prefix}.{number}"
        self.hosts.append(inside)
        for line in (
            f"netns add {inside}",
            f"link add {outside} type veth peer name eth0 netns {inside}",
            f"link set {outside} master {self.name} up",
            f"-n {inside} addr add {address}/24 dev eth0",
            f"-n {inside} link set eth0 up",
            f"-n {inside} link set lo up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        return address, ["ip", "netns", "exec", inside]


@contextmanager
def network() -> Iterator[Network]:
    """A bridge for hosts, where this machine and this user can make one."""
    number = os.getpid() % 250
    found = Network(f"pal{os.getpid() % 100_000}", f"10.213.{number}")
    lines = (
        f"link add {found.name} type bridge",
        f"addr add {found.here}/24 dev {found.name}",
        f"link set {found.name} up",
    )
    able = shutil.which("ip") is not None and os.getuid() == 0
    if not able or any(subprocess.run(["ip", *line.split()], check=False).returncode for line in lines):
        found = Network("", "")
    try:
        yield found
    finally:
        for host in found.hosts:
            subprocess.run(["ip", "netns", "del", host], check=False)
        if found.name:
            subprocess.run(["ip", "link", "del", found.name], check=False)


@dataclass
class Cluster:
    """What is up.

    Attributes:
        environment: What `pal` and Prefect need to reach everything.
        worker_environment: What the scheduler and its workers need: nothing of Prefect.
        address: Of the Dask scheduler.
        workers: The processes that keep a Dask worker up.
        hosts: Address of each worker's host, and how to run a command there.
    """

    folder: Path
    postgres: Postgres
    s3: S3
    api: str
    environment: dict[str, str]
    worker_environment: dict[str, str]
    address: str
    hosts: list[tuple[str, list[str]]]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def pal(self, workspace: Path, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """A `pal` command that was started."""
        command = [sys.executable, "-m", "flows.cli.main", *arguments, "--workspace", str(workspace)]
        return subprocess.Popen(
            command, env=self.environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
        )

    def start_worker(self, number: int) -> None:
        """Start a Dask worker on its host; one that is killed is started again."""
        address, there = self.hosts[number]
        log = (self.folder / f"worker-{number}.log").open("ab")
        program = [*there, sys.executable, "-m", "distributed.cli.dask_worker", self.address]
        options = f"--host {address} --nthreads 1 --memory-limit 2GB --no-dashboard --name {number}".split()
        where = ["--local-directory", str(self.folder / f"worker-{number}"), "--resources", f"GPU={number}"]
        with log:
            process = subprocess.Popen(
                [*program, *options, *where],
                env=self.worker_environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(process)


@contextmanager
def cluster(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Everything up, until the end of the block.

    Args:
        more: Into the environment of all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        net = stack.enter_context(network())
        postgres = stack.enter_context(postgres_server(net.here))
        s3 = stack.enter_context(s3_server(net.here))
        postgres.create("prefect")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PAL_"))}
        port = free_port(net.here)
        environment = {
            **kept,
            **QUIET,
            **s3.environment,
            "PGPASSWORD": "secret-word",
            "PREFECT_API_URL": f"http://{net.here}:{port}/api",
            "PREFECT_HOME": str(folder / "prefect"),
            **(more or {}),
        }
        (folder / "prefect").mkdir()
        database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url("prefect", "postgresql+asyncpg")}
        server = [sys.executable, "-m", "prefect", "server", "start", "--host", net.here, "--port", str(port)]
        stack.enter_context(running(server, {**environment, **database}, folder / "server.log"))
        host, there = net.host()
        address = f"tcp://{host}:{8786 if net.name else free_port()}"
        scheduler = [*there, sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
        scheduler += ["--host", address]
        bare = {name: value for name, value in environment.items() if not name.startswith("PREFECT_")}
        stack.enter_context(running(scheduler, bare, folder / "scheduler.log"))
        hosts = [net.host(), net.host()]
        made = Cluster(folder, postgres, s3, environment["PREFECT_API_URL"], environment, bare, address, hosts)
        wait_for(f"{made.api}/health")
        try:
            for number in range(2):
                made.start_worker(number)
            yield made
        finally:
            for process in made.workers:
                end(process)


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, until the end of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
