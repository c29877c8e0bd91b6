"""What the documents say is so: commands, targets and links exist, generated pages are new, the language is plain."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, pages
from typer.main import get_command

from flows.cli.commands import app
from tasks.config.template import PRESETS
from tasks.sampling.mixer import strategy_names

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
def test_the_help_of_every_command_ends_with_an_example(command: str) -> None:
    found = get_command(app).commands[command]  # type: ignore[attr-defined]
    assert found.help
    assert found.epilog.startswith(f"Example: pal {command}")


def test_commands_in_the_documents_exist() -> None:
    for path in (ROOT / "README.md", *DOCS.glob("*.md")):
        text = re.sub(r"--8<--.*", "", path.read_text(encoding="utf-8"))
        named = set(re.findall(r"(?:`|^(?:\$ )?)pal ([a-z]+)(?= |`|$)", text, re.MULTILINE))
        assert named <= set(COMMANDS), path


def test_the_readme_is_short_and_its_links_lead_to_files() -> None:
    assert len(readme().split()) <= 700
    links = re.findall(r"\]\((?!https?:)([^)#]+)", readme())
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_tests_that_guarantees_name_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (DOCS / "guarantees.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_no_placeholder_is_left_in_the_readme() -> None:
    assert not re.search(r"\b[A-Z]+_TABLE\b|TODO|FIXME", readme())


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", readme())) <= targets
    assert {"help", "setup", "demo", "test", "test-slow", "check", "docs", "coverage", "lowest", "bench"} <= targets


@pytest.mark.parametrize("name", ["commands.md", "pal-toml.md", "strategies.md"])
def test_a_generated_page_is_what_the_code_writes(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "write it again: make docs"


# Phrases that plain English words differently.
DIALECT = r"\bmend|is none of: |(is|are) taken\b|[Ww]hat it left|\bl(ies|ie|ay) (in|here|there)\b|st(ands|ood) there\b"
DIALECT += r"|(is|are|was|were) told\b|told by|your rights|space on the disk|the way out|waits? for (answers|a person)"
DIALECT += r"|keeps? house|\bis at work\b|not begun\b|begin(s|ning)? anew|asks .* about nothing|is not what it was"
DIALECT += r"|stands for two|\bis no (number|time|answer|batch file|object|JSON|catalog|condition)\b"
DIALECT += r"|\bholds (no|another|something)\b"


def test_the_old_dialect_is_gone_from_documents_and_messages() -> None:
    written = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    for path in (*written, *DOCS.glob("*.md")):
        assert re.findall(rf".*(?:{DIALECT}).*", path.read_text(encoding="utf-8")) == [], path
    messages = (ROOT / "tests" / "messages.txt").read_text(encoding="utf-8")
    assert re.findall(rf".*(?:{DIALECT}).*", messages) == []


def test_the_readme_counts_the_strategies() -> None:
    assert f"there are {len(strategy_names())}." in readme()


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


@pytest.mark.parametrize("host", ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "deb.debian" + ".org"])
def test_no_package_registry_host_is_named(host: str) -> None:
    for path in TEXT_FILES:
        if (ROOT / path).is_file():
            assert host not in (ROOT / path).read_text(encoding="utf-8", errors="ignore"), path
