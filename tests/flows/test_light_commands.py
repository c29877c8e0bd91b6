"""What commands do not import: each library below costs more than the rest of the command that it is missing from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import pal_toml

from tasks.project import Project, open_project

ROOT = Path(__file__).parents[2]
NEVER = ("torch", "scipy", "sklearn")
RUN = """
import json, sys
from pathlib import Path
{body}
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
COMMAND = "import flows.cli.commands as pal; sys.argv = ['pal', *{arguments}]; pal.app(standalone_mode=False)"


def modules_after(project: Project, body: str) -> tuple[set[str], str]:
    """The modules that a process has imported once it ran `body` in a workspace, and what it printed."""
    environment = {"PAL_WORKSPACE": str(project.workspace.root), "PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-X", "utf8", "-c", RUN.format(body=body)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stderr.splitlines()[-1])), ran.stdout


@pytest.mark.parametrize(
    ("arguments", "waits", "said", "more"),
    [
        (["status"], True, r"\b2 of 3\b.*\b2\b", {"pyarrow", "tasks.sampling.mixer"}),
        (["status"], False, "0 of 3 ", {"pyarrow", "numpy", "annotation.formats.detection", "urllib.request"}),
        (["find", "flood", "--by", "words"], True, "", {"numpy", "pyarrow"}),
        (["predict", "floods cut off town"], True, "floods cut off town", {"pyarrow", "tasks.sampling.mixer"}),
    ],
)
def test_a_command_imports_no_heavy_library(
    lively: Project, arguments: list[str], waits: bool, said: str, more: set[str]
) -> None:
    (folder,) = lively.workspace.batches.iterdir()
    if not waits:
        (folder / "batch.csv").unlink()
    modules, printed = modules_after(lively, COMMAND.format(arguments=arguments))
    assert re.search(said, printed)
    assert modules & {*NEVER, "pandas", "prefect", *more} == set()


def test_the_rows_of_a_file_are_predicted_without_heavy_libraries(lively: Project, tmp_path: Path) -> None:
    texts, output = tmp_path / "texts.csv", tmp_path / "out.jsonl"
    texts.write_text("id,text\n7,Storm hits coast\n8,\n", encoding="utf-8")
    arguments = ["predict", "--file", str(texts), "--output", str(output)]
    modules, _ = modules_after(lively, COMMAND.format(arguments=arguments))
    assert modules & {*NEVER, "prefect", "openpyxl"} == set()
    assert [json.loads(line)["id"] for line in output.read_text(encoding="utf-8").splitlines()] == ["7", "8"]


def test_a_model_is_loaded_without_what_only_training_needs(lively: Project) -> None:
    body = """
import torch
from tasks.learning.encoders import StaticVectors
from tasks.learning.network import FamilyClassifier
from tasks.learning.model_files import load_model
encoder = StaticVectors()
width = encoder.vectors().shape[1]
FamilyClassifier(encoder, {"centre": torch.zeros(width), "weight": torch.zeros(2, width), "bias": torch.zeros(2)})"""
    assert modules_after(lively, body)[0] & {"sympy", "scipy.optimize", "sklearn"} == set()


def test_the_first_batch_is_published_without_torch(
    tmp_path: Path, take_headlines: Callable[..., dict[str, str]]
) -> None:
    (tmp_path / "pal.toml").write_text(pal_toml(evaluation=20), encoding="utf-8")
    project = open_project(tmp_path)
    take_headlines(project.workspace, 100)
    modules, _ = modules_after(project, COMMAND.format(arguments=["next"]))
    assert len(list(project.workspace.batches.iterdir())) == 1
    assert modules & {*NEVER, "prefect"} == set()


def test_answers_are_ingested_without_torch_arrow_and_prefect(lively: Project) -> None:
    body = """
from tasks.project import open_project
from tasks.collect import collect_answers
print([(report.n_new, report.errors) for report in collect_answers(open_project())])"""
    modules, said = modules_after(lively, body)
    assert said.strip() == "[(2, [])]"
    assert modules & {*NEVER, "pandas", "prefect", "pyarrow"} == set()


def test_a_file_of_texts_is_imported_without_torch(lively: Project, tmp_path: Path) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("id,text\n7,Storm hits coast\n8,Dogs bark\n", encoding="utf-8")
    body = f"""
from tasks.project import open_project
from storage.lake.importing import import_source
from storage.lake.items import add_features, texts_without_features
from storage.readers.opening import open_source
from tasks.learning.encoders import StaticVectors
project = open_project()
with project.workspace.scratch() as scratch:
    rejects = project.workspace.reports / "rejects.csv"
    made = import_source(project.workspace.store(), open_source(Path({str(texts)!r})), scratch, rejects, print)
print(made.n_new)
for batch in texts_without_features(project.workspace.store(), "e"):
    print(len(StaticVectors().tokenize(batch.column("text"))))"""
    modules, said = modules_after(lively, body)
    assert said.split()[-2:] == ["2", "5"]
    assert modules & {*NEVER, "prefect"} == set()
