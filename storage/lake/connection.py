"""A DuckDB connection with a lake attached: extensions, access to object storage, and explained errors.

Values are written into SQL as quoted literals: to bind parameters, DuckDB's Python client imports pandas if it is
installed, which would add a quarter of a second to commands like `pal status`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from storage.errors import StoreError

Connection = duckdb.DuckDBPyConnection

_EXTENSIONS = {"sqlite": ["sqlite_scanner"], "postgres": ["postgres_scanner"]}
_OF_CLUSTER = {"postgres_scanner", "httpfs", "aws"}
_SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_EXTENSIONS_FROM_PIP = {
    # The extensions were installed by pip, which checked their hashes; whoever can change them can change this code,
    # too. Checking DuckDB's signatures would read 60 MB, a sixth of a second per command.
    "allow_unsigned_extensions": "true",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
}

LOST = re.compile(
    r"Connection refused|server closed the connection|terminating connection|no connection to the server|"
    r"connection (to the server )?(was|has been) (lost|closed)|"
    r"system is (starting up|shutting down|in recovery|not yet accepting connections)|"
    r"Connection reset|could not receive data|could not send data|Broken pipe|"
    r'Failed to execute query "(COMMIT|ROLLBACK)"',
    re.IGNORECASE,
)
"""libpq's messages when the connection to PostgreSQL is lost, perhaps only for a moment."""

_FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        r"NoSuchBucket|NO_SUCH_BUCKET|bucket does not exist",
        "The bucket does not exist",
        "Create it, or correct [lake] data in pal.toml.",
    ),
    (
        r"HTTP code 40[13]|HTTP 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Secret Validation Failure|"
        r"AWS Error (ACCESS_DENIED|INVALID_|SIGNATURE_|MISSING_AUTH|UNRECOGNIZED_CLIENT)",
        "The object storage denies access",
        "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or give the machine's role access to the bucket.",
    ),
    (
        r"(HTTP|s3).*(Could not|couldn't) (connect|resolve|establish)|(Could not|couldn't) (connect|resolve).*HTTP|"
        r"AWS Error NETWORK_CONNECTION",
        "The object storage does not answer",
        "Check the network and AWS_ENDPOINT_URL.",
    ),
    (
        r"password authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist",
        "PostgreSQL rejects the user",
        "Set PGPASSWORD, or write the password to ~/.pgpass (chmod 600); the user is set in [lake] catalog.",
    ),
    (
        r"FATAL: +database .* does not exist",
        "PostgreSQL has no such database",
        "Create it (createdb NAME), or correct dbname in [lake] catalog.",
    ),
    (
        r"permission denied for",
        "PostgreSQL denies write access",
        "Make the user the owner of the database: createdb --owner USER NAME",
    ),
    (
        rf"{LOST.pattern}|could not translate host name|timeout expired|Is the server running|Network is unreachable",
        "PostgreSQL does not answer",
        "Start it, or correct host and port in [lake] catalog in pal.toml.",
    ),
)


def open_duckdb(catalog: str, data: str, scratch: Path | None, memory: str) -> Connection:
    """Open an in-memory DuckDB with the extensions for a lake; nothing is attached yet.

    It uses one thread until `use_all_cores`: for a few thousand rows, threads cost more than they save.

    Raises:
        StoreError: The kind of catalog is unknown, an extension is missing, or there are no storage credentials.
    """
    kind, _, location = catalog.partition(":")
    if kind not in _EXTENSIONS or not location:
        raise StoreError(
            f"[lake] catalog = {without_secrets(catalog)!r} is not a catalog.",
            hint="Write sqlite:<path> or postgres:<connection>.",
        )
    connection = duckdb.connect(config={"memory_limit": memory, "threads": 1, **_EXTENSIONS_FROM_PIP})
    connection.execute("SET enable_progress_bar = false; SET GLOBAL TimeZone = 'UTC'")
    if scratch is not None:
        connection.execute(f"SET temp_directory = {quoted(scratch.as_posix())}")
    for name in ("ducklake", *_EXTENSIONS[kind]):
        load_extension(connection, name)
    # A write is valid only on the version it has read; after another commit, it is run again as a whole.
    connection.execute("SET ducklake_max_retry_count = 0")
    if data.startswith("s3:"):
        allow_object_storage(connection, data)
    return connection


def use_all_cores(connection: Connection) -> None:
    """Use as many threads as there are cores from now on."""
    connection.execute("RESET threads")


def attach_lake(
    connection: Connection, catalog: str, data: str, name: str = "lake", *, read_only: bool = False
) -> None:
    """Attach a lake under a name, creating it if it does not exist."""
    options = ["READ_ONLY"] if read_only else []
    options += [f"DATA_PATH {quoted(data)}", "OVERRIDE_DATA_PATH true", "DATA_INLINING_ROW_LIMIT 10000"]
    if catalog.startswith("sqlite:"):
        options += ["META_JOURNAL_MODE 'WAL'", "META_BUSY_TIMEOUT 30000"]
    connection.execute(f"ATTACH {quoted(f'ducklake:{catalog}')} AS {name} ({', '.join(options)})")


def allow_object_storage(connection: Connection, data: str) -> None:
    """Let a connection use `s3://...`: credentials from AWS_* or the cloud's chain, server from AWS_ENDPOINT_URL.

    DuckDB itself ignores AWS_ENDPOINT_URL.
    """
    for name in ("httpfs", "aws"):
        load_extension(connection, name)
    options = ["TYPE s3", "PROVIDER credential_chain"]
    scheme, server = object_storage()
    if server:
        options.append(f"ENDPOINT {quoted(server)}")
        options.append(f"USE_SSL {'true' if scheme == 'https' else 'false'}")
        if not server.endswith(".amazonaws.com"):
            options.append("URL_STYLE 'path'")
    try:
        connection.execute(f"CREATE OR REPLACE SECRET object_storage ({', '.join(options)})")
    except duckdb.Error as error:
        raise explained(error, f"data in {data}") or error from error


def object_storage() -> tuple[str, str]:
    """Scheme and server with port from AWS_ENDPOINT_URL; an empty server means Amazon's own."""
    address = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    return address.scheme or "https", address.netloc + address.path.rstrip("/")


def load_extension(connection: Connection, name: str) -> None:
    """Load an extension from its pip package, never from the network."""
    package = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.exists():
            connection.execute(f"LOAD {quoted(path.as_posix())}")
            return
    pip_name = f"{package.replace('_', '-')}=={duckdb.__version__}"
    requirement = "'pytorch-active-learning[cluster]'" if name in _OF_CLUSTER else pip_name
    what = f"DuckDB {duckdb.__version__} has no extension {name!r} here."
    raise StoreError(what, hint=f"Install it: pip install {requirement}")


def explained(error: Exception, address: str) -> StoreError | None:
    """Translate a server's error into a StoreError with a hint; None for other errors.

    Args:
        address: The address of the lake or of its data.
    """
    for pattern, what, hint in _FAULTS:
        if re.search(pattern, str(error), re.IGNORECASE | re.DOTALL):
            message = " ".join(without_secrets(str(error)).split("LINE 1:")[0].split())
            return StoreError(f"{what}: {without_secrets(address)}: {message}", hint=hint)
    return None


def without_secrets(message: str) -> str:
    """`message` without the passwords of connection strings and of the environment.

    >>> without_secrets("postgres:host=db password=x1 and postgresql://me:x2@db/lake, password = 'x 3'")
    'postgres:host=db password=*** and postgresql://me:***@db/lake, password = ***'
    """
    for secret in filter(None, map(os.environ.get, _SECRETS)):
        message = message.replace(secret, "***")
    pattern = r"(?i)(password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)|(://[^:/@\s]+:)[^@\s]+(?=@)"
    return re.sub(pattern, r"\1\2***", message)


Parameters = Sequence[Any] | Mapping[str, Any] | None
"""The values of the `?` of a query in order, or of each `$name` by name."""

_PLACEHOLDER = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | \$(?P<name>[A-Za-z_]\w*) | (?P<next>\?)""", re.VERBOSE
)
"""A placeholder; or a string, a quoted name or a comment, whose placeholders are ignored."""


def bound(sql: str, parameters: Parameters = None) -> str:
    """`sql` with each placeholder replaced by its parameter as a literal.

    Raises:
        TypeError: A parameter has an unsupported type.
        ValueError: There are more or fewer parameters than placeholders.

    >>> bound("SELECT ?, '?' WHERE name = ?", [1, "it's"])
    "SELECT 1, '?' WHERE name = 'it''s'"
    >>> bound("SELECT $n + $n", {"n": 2})
    'SELECT 2 + 2'
    """
    if not parameters:
        return sql
    by_name = parameters if isinstance(parameters, Mapping) else {}
    in_order = iter(() if isinstance(parameters, Mapping) else parameters)
    used: set[str] = set()

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None and match["next"] is None:
            return match[0]
        try:
            value = next(in_order) if name is None else by_name[name]
        except (StopIteration, KeyError):
            raise ValueError(f"no parameter for {match[0]} of: {sql}") from None
        used.add(name or "")
        return literal(value)

    text = _PLACEHOLDER.sub(replaced, sql)
    unused = [*in_order, *(by_name.keys() - used)]
    if unused:
        raise ValueError(f"{len(unused)} more parameters than placeholders in: {sql}")
    return text


def listed(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A query that returns a few constant rows; importing Arrow would take longer than a small command.

    Args:
        rows: Column -> value: texts, numbers, times or None.
        columns: Column -> SQL type, in the order of the result.

    >>> print(listed([{"n": 1}], {"n": "BIGINT"}))
    SELECT unnest(from_json('[{"n": 1}]', '[{"n": "BIGINT"}]'), recursive := true)
    """
    texts = [json.dumps(rows, default=str), json.dumps([dict(columns)])]
    return bound("SELECT unnest(from_json(?, ?), recursive := true)", texts)


def literal(value: Any) -> str:
    """A value as an SQL literal: NULL, a Boolean, a number, a time, a text, or a list of texts.

    Raises:
        TypeError: The value has another type.

    >>> literal(None), literal(True), literal(0.5), literal(["a", "b"])
    ('NULL', 'true', "'0.5'::DOUBLE", 'from_json(\\'["a", "b"]\\', \\'["VARCHAR"]\\')')
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return f"'{float(value)!r}'::DOUBLE" if math.isfinite(value) else f"'{value}'::DOUBLE"
    if isinstance(value, str):
        parts = [quoted(part) for part in str(value).split("\0")]
        return f"({' || chr(0) || '.join(parts)})" if len(parts) > 1 else parts[0]
    if isinstance(value, datetime):
        return f"{'TIMESTAMPTZ' if value.tzinfo else 'TIMESTAMP'} '{value.isoformat(' ')}'"
    if isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value):
        # One constant: parsing a list of literals takes a hundred times as long.
        return f"""from_json({quoted(json.dumps(value))}, '["VARCHAR"]')"""
    raise TypeError(f"a {type(value).__name__} cannot be written into SQL")


def quoted(text: str) -> str:
    """`text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
