import bz2
import codecs
import lzma
import os
import re
from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.readers.file_kinds import find_encoding, is_json, next_lines, open_text, readable_file
from storage.readers.opening import open_source


def encoding_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return find_encoding(path, content[:65_536])


def test_windows_1252_is_found_even_when_its_first_accent_comes_late(tmp_path: Path) -> None:
    content = b"1,plain words\n" * 200_000 + "2,café\n".encode("cp1252")
    assert encoding_of(tmp_path / "a.csv", content) == "cp1252"


def test_a_few_bad_bytes_do_not_turn_utf_8_into_windows_1252(tmp_path: Path) -> None:
    content = "é,ü,ñ\n".encode() * 10 + b"caf\xe9\n"
    assert encoding_of(tmp_path / "a.csv", content) == "utf-8"


def test_a_character_cut_off_by_the_end_of_the_file_is_no_sign_of_windows_1252(tmp_path: Path) -> None:
    assert encoding_of(tmp_path / "a.csv", "1,plain\n2,caf\u00e9".encode()[:-1]) == "utf-8"


def test_nuls_in_utf_8_are_not_utf_16(tmp_path: Path) -> None:
    assert encoding_of(tmp_path / "a.csv", b"1,plain words\n2,a\0b and more words\n" * 50) == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16-le", "shift_jis"])
def test_bytes_that_are_not_text_never_stop_the_reading(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("good\n".encode(encoding) + b"\x81\xff\x81\xfe\xff" + "\n".encode(encoding) + b"\x81")
    with path.open("rb") as file, open_text(file, encoding) as stream:
        assert next_lines(stream, 10)[0] == "good\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", ""),
        (codecs.BOM_UTF8, ""),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
        (b"PK\x03\x04" + bytes(99), "workbook"),
        (b"\x1f\x8b" + bytes(99), "gzip"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "texts.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"texts\.csv.*{kind}"):
        readable_file(path)


def test_missing_files_and_directories_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.csv"):
        readable_file(tmp_path / "gone.csv")
    with pytest.raises(SourceError, match=re.escape(str(tmp_path))):
        readable_file(tmp_path)


def test_json_is_told_by_content() -> None:
    path = Path("texts.txt")
    assert is_json(path, b'{"text": "a"}\n', "utf-8")
    assert is_json(path, b'{"text: broken\n{"text": "a"}\n', "utf-8")
    assert is_json(path, b'[\n {"text": "a"}]', "utf-8")
    assert not is_json(path, b"{curly} texts\n[1] more\n", "utf-8")


def test_unknown_binary_content_is_refused() -> None:
    with pytest.raises(SourceError, match=r"a\.csv"):
        is_json(Path("a.csv"), bytes(range(32)) * 10, "utf-8")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Où est l'hôtel « Étoile » – à côté déjà…"),
        ("shift_jis", "日本語のテキスト"),
        ("gb18030", "中文文本在这里"),
        ("koi8-r", "русский текст"),
    ],
)
def test_a_file_in_another_alphabet_is_not_read_as_windows_1252(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"id,text\n1,{text}\n2,plain words\n".encode(encoding))
    if encoding != "cp1252":
        with pytest.raises(SourceError):
            open_source(path)
    (first, _) = (row for part in open_source(path, encoding=encoding).all_rows(9) for row in part.columns.to_pylist())
    assert first["text"] == text


def test_pipes_and_compressed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for packed in (bz2.compress(b"id,text\n1,one\n"), lzma.compress(b"id,text\n1,one\n")):
        path.write_bytes(packed)
        with pytest.raises(SourceError):
            open_source(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceError):
        open_source(path)
