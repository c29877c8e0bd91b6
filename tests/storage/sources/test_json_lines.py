import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import SourceError
from storage.readers.opening import open_source
from storage.readers.rows import EMPTY_ID, EMPTY_TEXT, NOT_TEXT, NUL
from storage.readers.source import Chunk


def only(path: Path, **options: str) -> Chunk:
    (chunk,) = open_source(path, **options).chunks()
    return chunk


def test_objects_become_rows_and_ids_become_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 12.0, "headline": " one ", "date": 20030219}\n\n{"id": 7, "headline": "two", "x": [1]}\n',
        encoding="utf-8-sig",
    )
    assert open_source(path).description == "JSON lines, UTF-8; text 'headline', id 'id', date 'date'"
    assert only(path).table.to_pylist() == [
        {"row": 1, "item_id": "12", "text": "one", "published_at": datetime(2003, 2, 19)},
        {"row": 3, "item_id": "7", "text": "two", "published_at": None},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 1, "text": "cut o', "JSON"),
        ("[1]", "JSON"),
        ('{"id": 1}', "'text'"),
        ('{"id": 1, "text": 5}', "'text'"),
        ('{"id": 1, "text": null}', "'text'"),
        ('{"id": 1, "text": " "}', EMPTY_TEXT),
        ('{"text": "no id"}', EMPTY_ID),
        ('{"id": null, "text": "no id"}', EMPTY_ID),
        ('{"id": true, "text": "no id"}', EMPTY_ID),
        ('{"id": 1, "text": "\\ud800"}', NOT_TEXT),
        ('{"id": 1, "text": "a\\u0000b"}', NUL),
        ("[" * 100_000, "JSON"),
    ],
)
def test_one_bad_line_is_the_only_reject(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"id": "a", "text": "one"}}\n{line}\n{{"id": "b", "text": "two"}}\n', encoding="utf-8")
    chunk = only(path)
    assert chunk.table["text"].to_pylist() == ["one", "two"]
    assert [reject.row for reject in chunk.rejects] == [2]
    assert reason in chunk.rejects[0].reason


def test_keys_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "text": "one", "body_en": "two", "nr": 3}\n', encoding="utf-8")
    assert only(path, text_column="body_en", id_column="nr").table.to_pylist()[0]["text"] == "two"
    with pytest.raises(SourceError, match="'body_de'") as error:
        open_source(path, text_column="body_de")
    assert "--text-column body_en" in error.value.hint


def test_a_json_file_without_one_object_a_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n "text":\n "one"\n}\n', encoding="utf-8")
    with pytest.raises(SourceError, match=r"a\.json"):
        open_source(path)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_any_texts_are_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    lines = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert only(path).table["text"].to_pylist() == [text.strip() for text in texts if text.strip()]
