"""What the documents say is so: commands exist, help ends with an example, the README's tree is the tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.commands import app
from tasks.config.template import PRESETS
from tasks.sampling.catalogue import all_strategies, as_markdown, strategy_names

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
TEXT_FILES = [
    path
    for path in map(
        Path, subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    )
    if path.suffix in {".md", ".py", ".toml", ".txt", ".yaml", ".json", ""}
]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme_and_its_help_ends_with_an_example(command: str) -> None:
    assert f"pal {command}" in readme()
    found = get_command(app).commands[command]  # type: ignore[attr-defined]
    assert found.help
    assert found.epilog.startswith(f"Example: pal {command}")


def test_commands_in_the_readme_exist() -> None:
    named = set(re.findall(r"^\s*(?:\$ )?pal ([a-z]+)", readme(), re.MULTILINE))
    assert named <= set(COMMANDS)


def test_no_placeholder_is_left_in_the_readme() -> None:
    assert not re.search(r"\b[A-Z]+_TABLE\b|TODO|FIXME", readme())


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", readme())) <= targets
    assert {"help", "setup", "demo", "test", "test-slow", "check", "bench"} <= targets


def test_the_page_of_strategies_is_the_one_that_the_registry_writes() -> None:
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert page == as_markdown(all_strategies()) + "\n", (
        "write it again: pal strategies --markdown > docs/strategies.md"
    )
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == sorted(strategy_names())


def test_the_readme_counts_the_strategies() -> None:
    assert f"There are {len(strategy_names())} sampling strategies" in readme()


def test_presets_are_named_in_the_help() -> None:
    init = get_command(app).commands["init"]  # type: ignore[attr-defined]
    preset = next(parameter for parameter in init.params if parameter.name == "preset")
    assert all(name in preset.help for name in PRESETS)


def test_help_is_there_in_half_a_second_without_heavy_imports() -> None:
    code = (
        "import sys; sys.argv = ['pal', '--help']\n"
        "from flows.cli.commands import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'prefect', 'duckdb', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip().splitlines()[-1] == "[]"


def test_prefect_settings_are_the_same_in_pyproject_and_in_the_command() -> None:
    from flows.server.command_runs import SETTINGS

    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["prefect"]
    flat = {f"PREFECT_{'_'.join(keys)}".upper(): value for keys, value in _leaves(table)}
    shared = {name: value for name, value in SETTINGS.items() if name in flat}
    assert len(shared) >= 4
    assert all(str(flat[name]).lower() == value.lower() for name, value in shared.items())


def _leaves(table: dict[str, object], before: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    found = []
    for key, value in table.items():
        found += _leaves(value, (*before, key)) if isinstance(value, dict) else [((*before, key), value)]
    return found


@pytest.mark.parametrize("host", ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "deb.debian" + ".org"])
def test_no_package_registry_host_is_named(host: str) -> None:
    for path in TEXT_FILES:
        if (ROOT / path).is_file():
            assert host not in (ROOT / path).read_text(encoding="utf-8", errors="ignore"), path
