"""The house holds: which room may import which, and which library stays in one room."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("storage", "annotation", "tasks", "flows")
MAY_IMPORT = {
    "storage": set(),
    "annotation": {"storage"},
    "tasks/learning": {"storage"},
    "tasks/sampling": {"storage", "tasks/learning"},
    "tasks/scale": {"storage", "annotation", "tasks", "tasks/learning", "tasks/sampling"},
    "tasks": {"storage", "annotation", "tasks/learning", "tasks/sampling", "tasks/scale"},
    "flows": {"storage", "annotation", "tasks", "tasks/learning", "tasks/sampling", "tasks/scale"},
}
ONLY_IN = {
    "duckdb": {"storage"},
    "prefect": set(),
    "typer": {"flows"},
    "torch": {"tasks/learning", "tasks/sampling"},
    "distributed": {"tasks/scale"},
}
BUT_FOR = {"prefect": {"flows/server/deployments.py", "flows/server/guarded_app.py"}}
"""The modules that a library is for."""
STORAGE_FOR_PURE = {"storage.errors", "storage.records", "storage.files.folders"}  # a model writes its own files
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    path = "/".join(parts[:2])
    return path if path in MAY_IMPORT else parts[0]


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            yield from ((*node.module.split("."), alias.name) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    here = room_of(path.relative_to(ROOT).parts)
    for parts in imports(path):
        if parts[0] in ROOMS:
            there = room_of(parts)
            assert there == here or there in MAY_IMPORT[here], f"{here} imports {'.'.join(parts)}"
            if here in ("tasks/learning", "tasks/sampling") and there == "storage":
                names = {".".join(parts[:2]), ".".join(parts[:3])}
                assert names & STORAGE_FOR_PURE, f"pure code imports {'.'.join(parts)}"
        if parts[0] in ONLY_IN and path.relative_to(ROOT).as_posix() not in BUT_FOR.get(parts[0], ()):
            assert here in ONLY_IN[parts[0]], f"{parts[0]} in {here}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_says_its_job_in_its_first_line_and_has_a_telling_name(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "base", "misc", "manager"}


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, path


def test_no_two_modules_share_a_base_name() -> None:
    names = Counter(path.stem for path in FILES if path.name != "__init__.py")
    assert [name for name, n in names.items() if n > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_function_but_a_command_or_a_strategy_has_over_six_parameters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            has_options = any(
                "command" in ast.unparse(by) or "strategy" in ast.unparse(by) for by in node.decorator_list
            )
            assert has_options or len([name for name in given if name.arg not in ("self", "cls")]) <= 6, node.name


def test_no_top_level_package_but_the_four_rooms() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_caches_what_it_computes(path: Path) -> None:
    names = {part for parts in imports(path) for part in parts if parts[0] == "functools"}
    assert not names & {"cache", "lru_cache"}, "hold it in the project, or in an object that is passed"
    assert "functools.cache" not in path.read_text(encoding="utf-8")
