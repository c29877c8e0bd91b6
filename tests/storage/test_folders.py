"""A folder is there whole or not at all, whoever fails, is killed or is faster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from together import together

from storage.files.folders import MANIFEST, add_files, publish_folder

ROUNDS = 6


def write(part: Path) -> dict[str, Any]:
    (part / "a.txt").write_text("ours a", encoding="utf-8")
    (part / "b.txt").write_text("ours b", encoding="utf-8")
    return {"k": "ü"}


def never(part: Path) -> dict[str, Any]:
    raise AssertionError(f"nothing had to be written into {part}")


def texts_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name != MANIFEST}


def test_a_folder_gets_its_files_and_its_manifest_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    assert publish_folder(tmp_path / "deep" / "f", write)
    assert texts_in(tmp_path / "deep" / "f") == {"a.txt": "ours a", "b.txt": "ours b"}
    assert json.loads((tmp_path / "deep" / "f" / MANIFEST).read_text(encoding="utf-8")) == {"k": "ü"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f"]


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    publish_folder(tmp_path / "f", write)
    (tmp_path / "f" / "a.txt").write_text("filled in", encoding="utf-8")
    assert not publish_folder(tmp_path / "f", never)
    assert texts_in(tmp_path / "f") == {"a.txt": "filled in", "b.txt": "ours b"}


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("a bug"), KeyboardInterrupt()])
def test_an_error_while_writing_is_raised_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def failing(part: Path) -> dict[str, Any]:
        write(part)
        assert not (tmp_path / "f").exists()
        raise error

    with pytest.raises(type(error)):
        publish_folder(tmp_path / "f", failing)
    assert list(tmp_path.iterdir()) == []
    assert publish_folder(tmp_path / "f", write)


def test_a_manifest_that_is_no_json_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        publish_folder(tmp_path / "f", lambda part: {**write(part), "f1": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_manifest_gets_what_it_lacks_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.txt").write_text("filled in", encoding="utf-8")
    (tmp_path / "f" / "notes.txt").write_text("mine", encoding="utf-8")
    assert publish_folder(tmp_path / "f", write)
    assert texts_in(tmp_path / "f") == {"a.txt": "filled in", "b.txt": "ours b", "notes.txt": "mine"}
    assert (tmp_path / "f" / MANIFEST).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_file_in_the_folders_place_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine", encoding="utf-8")
    with pytest.raises(OSError, match="f"):
        publish_folder(tmp_path / "f", write)
    assert texts_in(tmp_path) == {"f": "mine"}


def test_what_killed_processes_left_is_removed_but_nothing_of_another_folder(tmp_path: Path) -> None:
    for name in (".f.1.part", ".f.22.part", ".g.1.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x", encoding="utf-8")
    assert publish_folder(tmp_path / "f", write)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".g.1.part", "f"]


def publish_there(root: Path, who: str) -> None:
    def signed(part: Path) -> dict[str, Any]:
        for name in ("a", "b", "c"):
            (part / name).write_text(who, encoding="utf-8")
        return {"who": who}

    for k in range(ROUNDS):
        if publish_folder(root / f"f{k}", signed):
            (root / f"won-{k}-{who}").touch()


def test_of_two_processes_at_once_one_publishes_and_the_other_is_told_so(tmp_path: Path) -> None:
    together(publish_there, (tmp_path, "anna"), (tmp_path, "bert"))
    for k in range(ROUNDS):
        (won,) = tmp_path.glob(f"won-{k}-*")
        who = won.name.rpartition("-")[2]
        assert texts_in(tmp_path / f"f{k}") == dict.fromkeys("abc", who)
        assert json.loads((tmp_path / f"f{k}" / MANIFEST).read_text(encoding="utf-8")) == {"who": who}
    assert list(tmp_path.glob(".*")) == []


# More files into a folder that is there


def more(part: Path) -> dict[str, Any]:
    for name in ("b", "c"):
        (part / f"{name}.txt").write_text(f"more {name}", encoding="utf-8")
    return {"k": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish_folder(tmp_path / "f", write)
    return tmp_path / "f"


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return found


def test_more_files_and_the_new_manifest_come_in_and_a_file_of_that_name_stays(folder: Path) -> None:
    (folder / "b.txt").write_text("filled in", encoding="utf-8")
    for _ in range(2):
        add_files(folder, more)
        assert texts_in(folder) == {"a.txt": "ours a", "b.txt": "filled in", "c.txt": "more c"}
        assert manifest_of(folder) == {"k": 2}


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("a bug"), KeyboardInterrupt()])
def test_an_error_while_more_is_written_leaves_the_folder_as_it_was(folder: Path, error: BaseException) -> None:
    def failing(part: Path) -> dict[str, Any]:
        more(part)
        raise error

    with pytest.raises(type(error)):
        add_files(folder, failing)
    assert texts_in(folder) == {"a.txt": "ours a", "b.txt": "ours b"}
    assert manifest_of(folder) == {"k": "ü"}


def test_what_a_killed_process_left_in_a_folder_is_removed_with_the_next_files(folder: Path) -> None:
    (folder / ".1.part").mkdir()
    (folder / ".1.part" / "c.txt").write_text("half", encoding="utf-8")
    add_files(folder, more)
    assert texts_in(folder) == {"a.txt": "ours a", "b.txt": "ours b", "c.txt": "more c"}


def test_the_manifest_names_new_files_only_once_they_are_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        assert (folder / "c.txt").is_file()
        assert manifest_of(folder) == {"k": "ü"}
        raise KeyboardInterrupt

    monkeypatch.setattr("storage.files.folders.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        add_files(folder, more)
    monkeypatch.undo()
    add_files(folder, more)
    assert manifest_of(folder) == {"k": 2}
