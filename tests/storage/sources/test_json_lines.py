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
from storage.readers.spellings import folded


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
        ('{"id": 1, "text": [5]}', "'text'"),
        ('{"id": 1, "text": true}', "'text'"),
        ('{"id": 1, "text": null}', EMPTY_TEXT),
        ('{"id": 1, "text": " \u200b\u3000"}', EMPTY_TEXT),
        ('{"text": "no id"}', EMPTY_ID),
        ('{"id": null, "text": "no id"}', EMPTY_ID),
        ('{"id": true, "text": "no id"}', EMPTY_ID),
        ('{"id": 1, "text": "\\ud800"}', NOT_TEXT),
        ('{"id": 1, "text": "a\\u0000b"}', NUL),
        ('{"id": "\\ud800", "text": "odd id"}', NOT_TEXT),
        ('{"id": "a\\u0000", "text": "odd id"}', NUL),
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


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ('{\n "text":\n "one"\n}\n', "jq -c . a.json"),
        ('{"meta": 1,\n "rows": [{"text": "one"}]}', "jq -c '.rows[]' a.json"),
        ('{"data": {"text": "one"}, "id": 1}\n', "jq -c '.data' a.json"),
        ('[{"data": {"text": "one"}}]\n', "jq -c '.[].data' a.json"),
        ("5\n", '{"text": "..."}'),
    ],
)
def test_a_json_file_without_one_object_a_line_is_refused_with_the_command_that_helps(
    tmp_path: Path, content: str, command: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError) as error:
        open_source(path)
    assert command in error.value.hint


def test_an_array_is_read_entry_by_entry(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(json.dumps([{"id": 1, "text": "one"}, 5, {"id": 2, "text": 2020}], indent=1), encoding="utf-16")
    source = open_source(path)
    assert source.description == "JSON array, UTF-16; text 'text', id 'id', no date"
    chunks = list(source.chunks(2))
    assert [(row["row"], row["text"]) for c in chunks for row in c.table.to_pylist()] == [(1, "one"), (3, "2020")]
    assert [reject.row for chunk in chunks for reject in chunk.rejects] == [2]
    path.write_text('["one", "two"]', encoding="utf-8")
    assert only(path.rename(path.with_suffix(".json"))).table["text"].to_pylist() == ["one", "two"]
    path.write_text('[{"text": "one"},\n {"text"', encoding="utf-8")
    with pytest.raises(SourceError, match=r"a\.txt"):
        open_source(path)


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "text": "two"}\n', encoding="utf-8")
    with pytest.raises(SourceError, match="'text'"):
        open_source(path)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_any_texts_are_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    lines = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert only(path).table["text"].to_pylist() == [text.strip() for text in texts if folded(text)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "empty JSON array"),
        ('{"version": "1", "data": [{"text": "a b"}, {"text": "c d"}]}', ".data[]"),
        ('{\n"data": [\n{"text": "a b"}]}', ".data[]"),
        ('{"x": {"y": {"text": "a b"}}}\n', ".x.y"),
        ('[{"x": {"text": "a b"}}]', ".[].x"),
        ('{"text": "a"}\n{"text": "a", "text": "b"}\n', "Line 2 "),
    ],
)
def test_json_that_holds_no_rows_says_where_the_texts_are(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        only(path)
    assert expected in str(caught.value)
