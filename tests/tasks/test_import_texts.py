"""Stage `import`: files of texts into the lake."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.errors import SourceError
from storage.lake.annotations import label_counts
from storage.lake.items import count_items
from storage.records import Split
from storage.workspace import Workspace
from tasks.import_files import ReadOptions, import_file, import_original_directory


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def test_encoding_and_delimiter_may_be_said(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_bytes("id|text\n1|Überschwemmung, Zürich\n".encode("cp1252"))
    import_file(project_of(workspace), path, ReadOptions(encoding="cp1252", delimiter="|"))
    assert workspace.store().rows("SELECT item_id, text FROM lake.items") == [("1", "Überschwemmung, Zürich")]


def test_files_of_one_name_in_two_folders_have_a_rejects_file_each(workspace: Workspace, tmp_path: Path) -> None:
    options = ReadOptions(text_columns=("text",), id_column="id")
    found = []
    for folder in ("a", "b"):
        path = write(tmp_path / folder / "texts.csv", f"id,text\n{folder}1,first {folder}\n{folder}1,second {folder}\n")
        report = import_file(project_of(workspace), path, options)
        assert report.n_rejected == 1
        assert report.rejects_file is not None
        found.append(report.rejects_file)
    assert len(set(found)) == 2
    assert {path.parent for path in found} == {workspace.reports}
    for folder, path in zip(("a", "b"), found, strict=True):
        assert path.name.startswith("import-texts.csv-")
        assert f"second {folder}" in path.read_text(encoding="utf-8-sig")


def test_the_originals_directory_brings_pool_and_labels_under_the_names_of_pal_toml(
    workspace: Workspace, tmp_path: Path
) -> None:
    directory = tmp_path / "original"
    write(directory / "evaluation_data" / "related.csv", "1,floods in the north,1,random,\n")
    write(directory / "training_data" / "not_related.csv", "2,cats win,0,random,\n")
    write(directory / "unlabeled_data" / "unlabeled_data.csv", "3,dogs lose\n4,mayor speaks\n")
    report = import_original_directory(project_of(workspace), directory)
    counts = label_counts(workspace.store())
    assert counts == {Split.EVALUATION: {"related": 1}, Split.VALIDATION: {}, Split.TRAINING: {"not_related": 1}}
    assert (report.n_new, count_items(workspace.store())) == (4, 4)


def test_the_originals_labels_need_the_keys_1_and_0(
    workspace: Workspace, three_labels: LabelSet, tmp_path: Path
) -> None:
    write(tmp_path / "original" / "training_data" / "related.csv", "1,floods in the north,1,random,\n")
    with pytest.raises(SourceError) as caught:
        import_original_directory(project_of(workspace, three_labels), tmp_path / "original")
    assert all(value in caught.value.what for value in ("pal.toml", "'0'"))
    assert all(value in caught.value.hint for value in ('"1"', '"0"', "pal init DIR --preset chapter-2"))
    assert count_items(workspace.store()) == 0
