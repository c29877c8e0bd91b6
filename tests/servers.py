"""Real servers for the tests: PostgreSQL (Debian's) and an S3 server, each with its own folder and port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BUCKET = "pal-test"


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server that only this test process uses."""

    folder: Path
    port: int
    host: str = "127.0.0.1"

    def url(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """How to connect to a database."""
        return f"{scheme}://pal:secret-word@{self.host}:{self.port}/{database}"

    def catalog(self, database: str) -> str:
        """A database's name in `[lake] catalog`, without the password: that is in $PGPASSWORD."""
        return f"postgres:host={self.host} port={self.port} user=pal dbname={database}"

    def create(self, database: str) -> None:
        """Make an empty database, in place of one of that name."""
        for sql in (f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)', f'CREATE DATABASE "{database}"'):
            self.run("psql", "--quiet", "-c", sql, self.url())

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as the user that owns the server."""
        return _checked([*_as_owner(), str(_programs() / program), *arguments])

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses={self.host} -c unix_socket_directories={self.folder}"
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def kill(self) -> None:
        """kill -9 of the server and all that belongs to it."""
        first = (self.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0]
        children = subprocess.run(["pgrep", "-P", first], capture_output=True, text=True, check=False).stdout.split()
        for process in (int(first), *map(int, children)):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def stop(self) -> None:
        """Stop the server."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")


@dataclass(frozen=True)
class S3:
    """An S3 server with one bucket; `environment` is what its clients need."""

    endpoint: str
    process: subprocess.Popen[bytes]
    root: str = f"s3://{BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """Where it is and who asks, as Arrow, DuckDB and Amazon's own tools read it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "pal-key",
            "AWS_SECRET_ACCESS_KEY": "secret-word",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @contextmanager
    def refusing(self, after: int = 0) -> Iterator[None]:
        """The server takes no key, after so many requests that it takes any."""
        self._take_any_key(str(after))
        try:
            yield
        finally:
            self._take_any_key("inf")

    def _take_any_key(self, n: str) -> None:
        url, plain = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, n.encode(), plain), timeout=300).close()


@contextmanager
def postgres_server(host: str = "127.0.0.1") -> Iterator[Postgres]:
    """A new server; gone afterwards. Skips the test where PostgreSQL is not installed."""
    if not (_programs() / "initdb").exists():
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    # Not in a folder of pytest's: those are for root only, and PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="pal-postgres-") as name:
        if _as_owner():
            shutil.chown(name, "postgres")
        with _started(Postgres(Path(name), free_port(host), host)) as server:
            yield server


@contextmanager
def _started(server: Postgres) -> Iterator[Postgres]:
    folder = server.folder
    password = folder / "password"
    password.write_text("secret-word", encoding="utf-8")
    password.chmod(0o644)
    server.run("initdb", "-D", str(folder / "data"), "-U", "pal", "-A", "scram-sha-256", f"--pwfile={password}")
    with (folder / "data" / "pg_hba.conf").open("a", encoding="utf-8") as file:
        file.write("host all all 0.0.0.0/0 scram-sha-256\n")
    server.start()
    try:
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[S3]:
    """A new S3 server in memory with an empty bucket; gone afterwards."""
    port = free_port(host)
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", host, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = S3(f"http://{host}:{port}", process)
    try:
        wait_for(f"{server.endpoint}/moto-api/")
        urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/{BUCKET}", method="PUT"), timeout=300)
        yield server
    finally:
        process.kill()
        process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


def wait_for(url: str, seconds: float = 240) -> None:
    """Until something answers there, whatever it answers."""
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _programs() -> Path:
    """Where PostgreSQL's own programs are: Debian keeps them out of the path, by version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    return versions[-1] if versions else Path(found or "/nowhere/initdb").parent


def _as_owner() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    assert pwd.getpwnam("postgres")
    return ["runuser", "-u", "postgres", "--"]


def _checked(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout
