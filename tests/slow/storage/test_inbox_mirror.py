"""What annotators put into the store's inbox is taken once, by whichever machine, and is never in no place."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from kill_at_line import killed_at, lines_of
from machines import FORKED, machine, stored
from servers import S3

from storage.files.mirror import Mirror
from storage.files.object_store import ObjectStore

KILLS = 8


@pytest.fixture
def store(shared_root: str) -> ObjectStore:
    """What everybody sees."""
    return ObjectStore(shared_root)


@pytest.fixture
def anna(shared_root: str, tmp_path: Path) -> Mirror:
    """One machine; its inbox is tmp_path/anna/inbox."""
    return with_inbox(shared_root, tmp_path / "anna")


@pytest.fixture
def bert(shared_root: str, tmp_path: Path) -> Mirror:
    """Another; its inbox is tmp_path/bert/inbox."""
    return with_inbox(shared_root, tmp_path / "bert")


def with_inbox(root: str, local: Path) -> Mirror:
    (local / "inbox").mkdir(parents=True, exist_ok=True)
    return machine(root, local)


def put_away(local: Path, name: str, folder: str = "done", to: str = "", errors: str = "") -> None:
    """What an ingest does with a file of the inbox."""
    place = local / "inbox" / folder / (to or name)
    place.parent.mkdir(exist_ok=True)
    if errors:
        place.with_name(f"{place.name}.errors.csv").write_text(errors, encoding="utf-8")
    (local / "inbox" / name).replace(place)


def waiting(local: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (local / "inbox").iterdir() if path.is_file()}


def marked(name: str, text: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.{suffix}"


def test_a_file_is_taken_put_away_everywhere_and_not_taken_again(
    anna: Mirror, bert: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    store.put("inbox/zoe.csv", b"answers")
    anna.inbox.pull()
    bert.inbox.pull()
    assert waiting(tmp_path / "anna") == waiting(tmp_path / "bert") == {"zoe.csv": "answers"}
    assert stored(store, "inbox") == {"zoe.csv": "answers"}
    put_away(tmp_path / "anna", "zoe.csv")
    anna.inbox.settle()
    assert stored(store, "inbox") == {f"done/{marked('zoe.csv', 'answers')}": "answers"}
    for each in (anna, bert, anna):
        each.inbox.pull()
        each.inbox.settle()
    assert waiting(tmp_path / "anna") == waiting(tmp_path / "bert") == {}
    assert stored(store, "inbox") == {f"done/{marked('zoe.csv', 'answers')}": "answers"}


def test_two_machines_that_took_the_same_file_put_it_away_once(
    anna: Mirror, bert: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    store.put("inbox/zoe.csv", b"answers")
    for each in (anna, bert):
        each.inbox.pull()
    for name, each in (("anna", anna), ("bert", bert)):
        put_away(tmp_path / name, "zoe.csv", "rejected", errors="row 7: perhaps")
        each.inbox.settle()
    kept = marked("zoe.csv", "answers")
    assert stored(store, "inbox") == {
        f"rejected/{kept}": "answers",
        f"rejected/{kept}.errors.csv": "row 7: perhaps",
    }


def test_a_new_file_of_that_name_is_not_removed_for_the_old_one_and_is_taken_too(
    anna: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    store.put("inbox/zoe.csv", b"answer 1")
    anna.inbox.pull()
    put_away(tmp_path / "anna", "zoe.csv")
    store.put("inbox/zoe.csv", b"answer 2")  # as long, and in the same second
    anna.inbox.settle()
    assert stored(store, "inbox")["zoe.csv"] == "answer 2"
    anna.inbox.pull()
    assert waiting(tmp_path / "anna") == {"zoe.csv": "answer 2"}
    put_away(tmp_path / "anna", "zoe.csv", to="zoe-2.csv")
    anna.inbox.settle()
    assert sorted(stored(store, "inbox").values()) == ["answer 1", "answer 2"]
    assert all(name.startswith("done/") for name in stored(store, "inbox"))


def test_the_same_file_handed_in_again_later_is_taken_again(anna: Mirror, store: ObjectStore, tmp_path: Path) -> None:
    for _ in range(2):
        store.put("inbox/zoe.csv", b"answers")
        anna.inbox.pull()
        assert waiting(tmp_path / "anna") == {"zoe.csv": "answers"}
        put_away(tmp_path / "anna", "zoe.csv")
        anna.inbox.settle()
        assert list(stored(store, "inbox")) == [f"done/{marked('zoe.csv', 'answers')}"]


def test_a_local_file_of_that_name_stays_and_the_stores_comes_beside_it(
    anna: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "anna" / "inbox" / "zoe.csv").write_text("local", encoding="utf-8")
    store.put("inbox/zoe.csv", b"shared")
    for _ in range(2):
        anna.inbox.pull()
        anna.inbox.settle()
        assert waiting(tmp_path / "anna") == {"zoe.csv": "local", marked("zoe.csv", "shared"): "shared"}
    for name in waiting(tmp_path / "anna"):
        put_away(tmp_path / "anna", name)
    anna.inbox.settle()
    assert sorted(stored(store, "inbox").values()) == ["local", "shared"]
    assert all(name.startswith("done/") for name in stored(store, "inbox"))


def test_a_copy_that_was_lost_here_is_brought_again_and_a_changed_one_is_not_removed(
    anna: Mirror, bert: Mirror, store: ObjectStore, tmp_path: Path
) -> None:
    store.put("inbox/zoe.csv", b"answers")
    for each in (anna, bert):
        each.inbox.pull()
    (tmp_path / "anna" / "inbox" / "zoe.csv").unlink()
    anna.inbox.settle()
    anna.inbox.pull()
    assert waiting(tmp_path / "anna") == {"zoe.csv": "answers"}
    (tmp_path / "bert" / "inbox" / "zoe.csv").write_text("more answers", encoding="utf-8")
    put_away(tmp_path / "anna", "zoe.csv")
    anna.inbox.settle()
    bert.inbox.pull()
    assert waiting(tmp_path / "bert") == {"zoe.csv": "more answers"}


def test_a_file_handed_in_twice_is_there_once_and_another_of_its_name_beside_it(
    anna: Mirror, bert: Mirror, store: ObjectStore, tmp_path: Path, shared_root: str
) -> None:
    for text in ("one", "one", "two"):
        (tmp_path / "zoe.csv").write_text(text, encoding="utf-8")
        uri = bert.inbox.hand_in(tmp_path / "zoe.csv")
        assert uri == f"{shared_root}/inbox/{marked('zoe.csv', text)}"
    assert sorted(stored(store, "inbox").values()) == ["one", "two"]
    anna.inbox.pull()
    assert sorted(waiting(tmp_path / "anna").values()) == ["one", "two"]
    assert waiting(tmp_path / "bert") == {}


def test_hidden_files_and_folders_of_the_inbox_are_left_alone(anna: Mirror, store: ObjectStore, tmp_path: Path) -> None:
    for name in (".DS_Store", "deep/zoe.csv", "..\\..\\zoe.csv"):
        store.put(f"inbox/{name}", b"x")
    anna.inbox.pull()
    assert waiting(tmp_path / "anna") == {}


def take(root: str, local: Path, environment: dict[str, str]) -> None:
    """What an ingest does: bring, read, put away, tell the store."""
    os.environ.update(environment)
    mirror = with_inbox(root, local)
    mirror.inbox.pull()
    for name in waiting(local):
        put_away(local, name, "rejected" if name.startswith("bad") else "done", errors="row 1" if "bad" in name else "")
    mirror.inbox.settle()


def test_killed_at_any_line_a_file_is_always_somewhere_and_the_next_ingest_ends_it(
    shared_root: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_at_line.SPAWN", FORKED)
    good, bad = f"done/{marked('good.csv', 'good')}", f"rejected/{marked('bad.csv', 'bad')}"

    def begun(name: str) -> tuple[str, Path, dict[str, str]]:
        root = f"{shared_root}/{name}"
        for each in ("good", "bad"):
            ObjectStore(root).put(f"inbox/{each}.csv", each.encode())
        return root, tmp_path / name, s3.environment

    lines = lines_of(take, *begun("whole"))
    for k in range(KILLS):
        root, local, environment = begun(f"killed-{k}")
        killed_at(1 + k * (lines - 1) // (KILLS - 1), take, root, local, environment)
        store = ObjectStore(root)
        assert {"good", "bad"} <= set(stored(store, "inbox").values())
        take(root, local, environment)
        assert stored(store, "inbox") == {good: "good", bad: "bad", f"{bad}.errors.csv": "row 1"}
        assert waiting(local) == {}
