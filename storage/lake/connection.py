"""A DuckDB connection with a lake attached: extensions, access to object storage, errors with what to type.

Values are written into SQL as quoted literals: DuckDB's Python client imports pandas to bind a parameter, where it is
installed, which costs a quarter of a second that a command like `pal status` need not pay.
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
    # They lie beside this code and came with it by pip, which checked their hashes: whoever can change them can change
    # what loads them. To check DuckDB's signature again reads 60 MB, a sixth of a second for each command.
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
"""What libpq says when PostgreSQL went away; it may be back in a moment."""

_FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        r"NoSuchBucket|NO_SUCH_BUCKET|bucket does not exist",
        "there is no such bucket",
        "Create it, or correct [lake] data in pal.toml",
    ),
    (
        r"HTTP code 40[13]|HTTP 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Secret Validation Failure|"
        r"AWS Error (ACCESS_DENIED|INVALID_|SIGNATURE_|MISSING_AUTH|UNRECOGNIZED_CLIENT)",
        "the object storage refuses access",
        "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or give the machine's role rights on the bucket",
    ),
    (
        r"(HTTP|s3).*(Could not|couldn't) (connect|resolve|establish)|(Could not|couldn't) (connect|resolve).*HTTP|"
        r"AWS Error NETWORK_CONNECTION",
        "the object storage does not answer",
        "check the network and AWS_ENDPOINT_URL",
    ),
    (
        r"password authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist",
        "PostgreSQL refuses the user",
        "set PGPASSWORD, or write the password to ~/.pgpass (chmod 600); the user stands in [lake] catalog",
    ),
    (
        r"FATAL: +database .* does not exist",
        "PostgreSQL has no such database",
        "Create it: createdb NAME; or correct dbname in [lake] catalog",
    ),
    (
        r"permission denied for",
        "PostgreSQL refuses to write there",
        "let the user own the database: createdb --owner USER NAME",
    ),
    (
        rf"{LOST.pattern}|could not translate host name|timeout expired|Is the server running|Network is unreachable",
        "PostgreSQL does not answer",
        "Start it, or correct host and port in [lake] catalog in pal.toml",
    ),
)


def open_duckdb(catalog: str, data: str, scratch: Path | None, memory: str) -> Connection:
    """A DuckDB in memory that can read and write lakes with such a catalog and such data; nothing is attached yet.

    It computes with one thread until `use_all_cores`: over a few thousand rows, threads cost more than they save.

    Raises:
        StoreError: The catalog is of no known kind, an extension is missing, or no key to the object storage is found.
    """
    kind, _, where = catalog.partition(":")
    if kind not in _EXTENSIONS or not where:
        raise StoreError(
            f"[lake] catalog = {without_secrets(catalog)!r} names no catalog.",
            hint="write sqlite:<path> or postgres:<connection>.",
        )
    connection = duckdb.connect(config={"memory_limit": memory, "threads": 1, **_EXTENSIONS_FROM_PIP})
    connection.execute("SET enable_progress_bar = false; SET GLOBAL TimeZone = 'UTC'")
    if scratch is not None:
        connection.execute(f"SET temp_directory = {quoted(scratch.as_posix())}")
    for name in ("ducklake", *_EXTENSIONS[kind]):
        load_extension(connection, name)
    # A write counts only on the version it has read: where somebody else committed since, all of it runs again.
    connection.execute("SET ducklake_max_retry_count = 0")
    if data.startswith("s3:"):
        allow_object_storage(connection, data)
    return connection


def use_all_cores(connection: Connection) -> None:
    """Compute with as many threads as there are cores from here on."""
    connection.execute("RESET threads")


def attach_lake(
    connection: Connection, catalog: str, data: str, name: str = "lake", *, read_only: bool = False
) -> None:
    """Attach a lake under a name; one that is not there yet is made."""
    options = ["READ_ONLY"] if read_only else []
    options += [f"DATA_PATH {quoted(data)}", "OVERRIDE_DATA_PATH true", "DATA_INLINING_ROW_LIMIT 10000"]
    if catalog.startswith("sqlite:"):
        options += ["META_JOURNAL_MODE 'WAL'", "META_BUSY_TIMEOUT 30000"]
    connection.execute(f"ATTACH {quoted(f'ducklake:{catalog}')} AS {name} ({', '.join(options)})")


def allow_object_storage(connection: Connection, data: str) -> None:
    """Let a connection use `s3://...`: keys from AWS_* or the cloud's usual chain, server from AWS_ENDPOINT_URL.

    DuckDB itself does not look at AWS_ENDPOINT_URL.
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
        raise told(error, f"data in {data}") or error from error


def object_storage() -> tuple[str, str]:
    """`http` or `https`, and the server with its port, as AWS_ENDPOINT_URL says; no server is Amazon's own."""
    address = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    return address.scheme or "https", address.netloc + address.path.rstrip("/")


def load_extension(connection: Connection, name: str) -> None:
    """Load the extension that its pip package brings; never from the network."""
    package = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.exists():
            connection.execute(f"LOAD {quoted(path.as_posix())}")
            return
    pip_name = f"{package.replace('_', '-')}=={duckdb.__version__}"
    wanted = "'pytorch-active-learning[cluster]'" if name in _OF_CLUSTER else pip_name
    raise StoreError(f"DuckDB {duckdb.__version__} has no extension {name!r} here.", hint=f"pip install {wanted}")


def told(error: Exception, where: str) -> StoreError | None:
    """What a server's refusal means and what to type; None where the error is of another kind.

    Args:
        where: The lake's address, or that of its data.
    """
    for pattern, what, hint in _FAULTS:
        if re.search(pattern, str(error), re.IGNORECASE | re.DOTALL):
            said = " ".join(without_secrets(str(error)).split("LINE 1:")[0].split())
            return StoreError(f"{what}: {without_secrets(where)}: {said}", hint=hint)
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
"""What stands for the `?` of a query in order, or for each `$name` by its name."""

_PLACEHOLDER = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | \$(?P<name>[A-Za-z_]\w*) | (?P<next>\?)""", re.VERBOSE
)
"""A placeholder; or a string, a quoted name or a comment, in which none is looked for."""


def bound(sql: str, parameters: Parameters = None) -> str:
    """`sql` with each placeholder replaced by its parameter as a literal.

    Raises:
        TypeError: A parameter is of a type that has no literal here.
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
    """A query for few rows, as one constant: Arrow would take longer to import than the rest of a small command.

    Args:
        rows: Column -> value: texts, numbers, times or None.
        columns: Column -> its type in SQL, in the order of the result.

    >>> print(listed([{"n": 1}], {"n": "BIGINT"}))
    SELECT unnest(from_json('[{"n": 1}]', '[{"n": "BIGINT"}]'), recursive := true)
    """
    texts = [json.dumps(rows, default=str), json.dumps([dict(columns)])]
    return bound("SELECT unnest(from_json(?, ?), recursive := true)", texts)


def literal(value: Any) -> str:
    """A value as SQL: NULL, a Boolean, a number, a time, a text, or a list of texts.

    Raises:
        TypeError: It is of another type.

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
        # One constant, however many texts: a list of as many literals takes the parser a hundred times as long.
        return f"""from_json({quoted(json.dumps(value))}, '["VARCHAR"]')"""
    raise TypeError(f"a {type(value).__name__} cannot be written into SQL")


def quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
