"""Archives from elsewhere: what is good in them is read, and what is bad does no harm."""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotation.formats import zip_archive as archive
from annotation.formats.zip_archive import BLOCK_BYTES, is_workbook, is_zip, opened_archive
from storage.errors import BatchError

FLAGS, METHOD, CRC, PACKED, SIZE, OFFSET = (8, "<H"), (10, "<H"), (16, "<L"), (20, "<L"), (24, "<L"), (42, "<L")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which private folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of files with just these names, whatever they are."""
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            made.writestr(info, content)
    return path


def patched(path: Path, number: int, field: tuple[int, str], value: int) -> Path:
    """The directory's entry `number` (from 0) of a zip says something else."""
    content = bytearray(path.read_bytes())
    at = -1
    for _ in range(number + 1):
        at = content.index(b"PK\x01\x02", at + 1)
    struct.pack_into(field[1], content, at + field[0], value)
    path.write_bytes(content)
    return path


def read(path: Path) -> dict[str, bytes | str]:
    """What is in an archive: name -> content, or what is said of it."""
    found: dict[str, bytes | str] = {}
    with opened_archive(path) as parts:
        for part in parts:
            try:
                found[part.name] = part.path.read_bytes()
            except BatchError as error:
                found[part.name] = str(error)
    return found


@contextlib.contextmanager
def in_little_memory() -> Iterator[None]:
    """What is done meanwhile takes less than 3 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def refusal(path: Path) -> str:
    with pytest.raises(BatchError) as caught, opened_archive(path):
        pass
    return str(caught.value)


def workbook(path: Path, more: Mapping[str, bytes] | None = None) -> Path:
    """A workbook as openpyxl writes it, with more entries, or others in the place of its own."""
    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path) as whole:
        files = {name: whole.read(name) for name in whole.namelist()}
    return zipped(path, files | dict(more or {}))


# --- what is good


def test_each_file_is_there_with_its_name_in_the_order_of_the_archive(tmp_path: Path) -> None:
    files = {
        "b.csv": b"text,label\r\n",
        "from/Zo\u00eb/a.jsonl": b"{}\n",
        "./c": b"",
        "B.CSV": b"1",
        "Zo\u251c\u00bd": b"2",
    }
    found = read(zipped(tmp_path / "a.zip", files))
    assert list(found.items()) == list(files.items())


def test_archives_written_as_a_stream_or_with_zip64_are_read(tmp_path: Path) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("a.csv", "b.csv"):
            with made.open(name, "w", force_zip64=True) as file:
                file.write(name.encode() * 1000)
    path = tmp_path / "a.zip"
    path.write_bytes(stream.getvalue())
    assert read(path) == {"a.csv": b"a.csv" * 1000, "b.csv": b"b.csv" * 1000}


def test_files_have_numbers_for_names_and_keep_a_plain_suffix(tmp_path: Path) -> None:
    names = ["con.CSV", "a/b.xlsx", "c", "d.tar:gz", "e.csv ", "f.averylongsuffix", "g.cs\u00fc", "h..", "i.jsonl"]
    with opened_archive(zipped(tmp_path / "a.zip", dict.fromkeys(names, b"x"))) as parts:
        on_disk = [part.path.name for part in parts]
        assert len({part.path.parent for part in parts}) == 1
    assert on_disk == ["0001.csv", "0002.xlsx", "0003", "0004", "0005", "0006", "0007", "0008", "0009.jsonl"]


def test_all_is_gone_afterwards(tmp_path: Path, temporary: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"x", "b.csv": b"y"})
    with opened_archive(path) as parts:
        assert [part.path.read_bytes() for part in parts] == [b"x", b"y"]
        folder = parts[0].path.parent
        assert folder.parent == temporary
    assert not any(temporary.iterdir())
    with pytest.raises(ValueError, match="of the reader"), opened_archive(path):
        raise ValueError("of the reader")
    assert not any(temporary.iterdir())
    refusal(zipped(path, {"../a.csv": b"x"}))
    assert not any(temporary.iterdir())
    path.unlink()  # Windows would refuse were it still open


def test_what_systems_add_is_passed_over(tmp_path: Path) -> None:
    added = ["folder/", "__MACOSX/._a.csv", "x/__MACOSX/b", ".DS_Store", "x/.DS_Store", "Thumbs.db", "x/thumbs.db"]
    added += [".hidden/a.csv", ".a.csv.part", "~$a.xlsx", ".~lock.a.csv#", ""]
    found = read(zipped(tmp_path / "a.zip", dict.fromkeys(added, b"x") | {"x/a.csv": b"1", "a__MACOSX": b"2"}))
    assert found == {"x/a.csv": b"1", "a__MACOSX": b"2"}


def test_an_archive_of_nothing_is_refused(tmp_path: Path) -> None:
    for files in ({}, {"folder/": b"", ".DS_Store": b"x"}):
        assert str(tmp_path / "a.zip") in refusal(zipped(tmp_path / "a.zip", files))


def test_a_missing_file_is_told_from_a_bad_one(tmp_path: Path) -> None:
    for ask in (is_zip, is_workbook, refusal):
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "none.zip")


# --- names

UNSAFE = ["/etc/passwd", "//server/share/a", "C:/a.csv", "c:a.csv", "../a.csv", "a/../b.csv", "a/..", "..", "..\\a.csv"]
UNSAFE += ["a\\b.csv", "\\a.csv", "a\0.csv", "\0", "__MACOSX/../a.csv", "../", "C:\\"]


@pytest.mark.parametrize("name", UNSAFE)
def test_one_name_that_leads_out_of_the_archive_and_all_of_it_is_refused(
    tmp_path: Path, temporary: Path, name: str
) -> None:
    path = zipped(tmp_path / "a.zip", {"good.csv": b"x", name: b"y"})
    said = refusal(path)
    assert str(path) in said
    assert repr(name) in said
    assert {found.name for found in tmp_path.rglob("*")} == {"a.zip", "temporary"}


names = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("/.\\:~\0"), max_size=12)


@given(st.dictionaries(names, st.binary(max_size=20).filter(lambda content: content[:2] != b"PK"), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_names_files_are_read_or_refused_and_lie_in_one_folder(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    path = zipped(tmp_path / "a.zip", files)
    unsafe = any(re.search(r"\A/|\A[A-Za-z]:|\\|\0|(\A|/)\.\.(/|\Z)", name) for name in files)
    try:
        with opened_archive(path) as parts:
            assert not unsafe
            assert all(re.fullmatch(r"\d{4}([.][a-z0-9]{1,8})?", part.path.name) for part in parts)
            assert {part.path.name for part in parts} == {found.name for found in parts[0].path.parent.iterdir()}
            wanted = [content for name, content in files.items() if not archive._is_skipped(name)]
            assert [part.path.read_bytes() for part in parts] == wanted
            assert all(part.name.isprintable() for part in parts)
    except BatchError:
        is_document = bool(files.keys() & {"[Content_Types].xml", "mimetype", "Index/Document.iwa"})
        assert unsafe or is_document or all(archive._is_skipped(name) for name in files)
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(("encoding", "flag"), [("utf-8", 0x800), ("utf-8", 0), ("cp437", 0)])
def test_names_are_read_in_whichever_of_the_two_encodings_they_are(tmp_path: Path, encoding: str, flag: int) -> None:
    written = "\u00eb".encode(encoding)
    path = zipped(tmp_path / "a.zip", {f"Zo{'?' * len(written)}.csv": b"x"})
    content = bytearray(path.read_bytes().replace(b"?" * len(written), written))
    struct.pack_into("<H", content, 6, flag)
    path.write_bytes(content)
    assert list(read(patched(path, 0, FLAGS, flag))) == ["Zo\u00eb.csv"]


def test_names_that_are_no_utf8_are_damage(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"Zo\u00eb.csv": b"x"})
    path.write_bytes(path.read_bytes().replace("\u00eb".encode(), b"\xff\xff"))
    assert str(path) in refusal(path)


def test_files_of_one_name_are_not_chosen_from(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"1", "b.csv": b"2", "c.csv": b"3"})
    path.write_bytes(path.read_bytes().replace(b"c.csv", b"a.csv"))
    with opened_archive(path) as parts:
        assert [part.name for part in parts] == ["a.csv", "b.csv", "a.csv"]
        assert parts[1].path.read_bytes() == b"2"
        for part in (parts[0], parts[2]):
            with pytest.raises(BatchError, match=r"a\.zip.*'a\.csv'.*\b2\b"):
                part.path  # noqa: B018


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    path = zipped(tmp_path / "a.zip", {"good.csv": b"x", "a.csv": b"/etc/passwd"})
    patched(path, 1, (38, "<L"), (kind | 0o777) << 16)
    assert "'a.csv'" in refusal(path)
    patched(path, 1, (38, "<L"), (stat.S_IFREG | 0o644) << 16)
    assert list(read(path)) == ["good.csv", "a.csv"]


# --- sizes


def no_unpacking(*_: object, **__: object) -> IO[bytes]:
    raise AssertionError("it must be refused before it is unpacked")


def test_more_files_than_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", {f"{n}.csv": b"" for n in range(1001)})
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", no_unpacking)
        said = refusal(path)
    assert all(value in said for value in (str(path), "1,001", "1,000"))
    files = {f"{n}.csv": b"" for n in range(1000)} | {f"__MACOSX/{n}.csv": b"" for n in range(50)}
    assert len(read(zipped(path, files))) == 1000


def test_a_directory_without_measure_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        for n in range(40):
            info = zipfile.ZipInfo(f"{n}.csv")
            info.comment = b"x" * 60_000
            made.writestr(info, b"")
    assert "2,40" in refusal(path), "the bytes of its directory"


def test_more_bytes_than_are_read_are_refused_by_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    path = zipped(tmp_path / "a.zip", {"a.csv": b"x" * 500, "b.csv": b"y" * 500})
    assert set(read(path)) == {"a.csv", "b.csv"}
    zipped(path, {"a.csv": b"x" * 500, "b.csv": b"y" * 501})
    monkeypatch.setattr(zipfile.ZipFile, "open", no_unpacking)
    said = refusal(path)
    assert all(value in said for value in (str(path), "1,001", "1,000"))


def bomb(path: Path, said_bytes: int) -> Path:
    """1 GB of zeros in 1 MB; the directory says that it is `said_bytes`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    deflated = megabyte * 1000 + packer.flush()
    name, crc = b"a.csv", zlib.crc32(bytes(1000))
    fields = struct.pack("<HHHHLLLHH", 0, 8, 0, 33, crc, len(deflated), said_bytes, len(name), 0)
    local = b"PK\x03\x04\x14\x00" + fields + name + deflated
    entry = b"PK\x01\x02\x14\x03\x14\x00" + fields + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(entry), len(local), 0)
    path.write_bytes(local + entry + end)
    assert path.stat().st_size < 1_500_000
    return path


def test_a_bomb_is_refused_by_its_ratio_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile.ZipFile, "open", no_unpacking)
    for said_bytes in (1_000_000_000, 199_000_000 * 2, 300_000_000):
        said = refusal(bomb(tmp_path / "a.zip", said_bytes))
        assert "'a.csv'" in said
        assert f"{said_bytes:,}" in said


def test_tables_that_pack_well_are_no_bombs(tmp_path: Path) -> None:
    remarks = b"".join(b"%d,yes,0.5,the same remark again\r\n" % n for n in range(400_000))
    files = {"below-10-MB.csv": b"the same line, again and again\r\n" * 300_000, "above.csv": remarks}
    path = zipped(tmp_path / "a.zip", files)
    with zipfile.ZipFile(path) as made:
        assert [info.file_size > 200 * info.compress_size for info in made.infolist()] == [True, False]
        assert [info.file_size > 10_000_000 for info in made.infolist()] == [False, True]
    assert read(path) == files


@pytest.mark.parametrize("said_bytes", [1000, 100_000_000])
def test_a_directory_that_lies_about_a_bomb_lets_no_more_be_written_than_it_says_and_in_little_memory(
    tmp_path: Path, temporary: Path, said_bytes: int
) -> None:
    path = bomb(tmp_path / "a.zip", said_bytes)
    with in_little_memory(), opened_archive(path) as (part,):
        assert sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file()) <= 1000
    if said_bytes == 1000:  # the checksum is that of as many zeros: what is unpacked is what the directory says
        assert read(path)["a.csv"] == bytes(1000)
    else:
        assert isinstance(part.content, BatchError)
        assert all(value in str(part.content) for value in (str(path), "'a.csv'", "CRC-32"))


def test_a_library_that_unpacks_more_than_the_directory_says_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(io.BytesIO):
        given = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size == BLOCK_BYTES
            self.given += size
            return bytes(size)

    source = Endless()
    path = zipped(tmp_path / "a.zip", {"a.csv": b"x" * 5 * BLOCK_BYTES})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: source)
    assert "'a.csv'" in str(read(path)["a.csv"])
    assert source.given == 6 * BLOCK_BYTES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_large_file_takes_little_memory(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    lines = b"".join(b"%d,some text,related\r\n" % (n * n) for n in range(40_000))
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as made, made.open("a.csv", "w") as file:
        for _ in range(30):
            file.write(lines)
    with in_little_memory(), opened_archive(path) as (part,):
        assert part.path.stat().st_size == 30 * len(lines) > 30_000_000


# --- places


def test_an_entry_quoted_by_another_is_refused(tmp_path: Path) -> None:
    """Each of Fifield's entries has the header of the next one in its data, and shares all that follows."""
    inner = zipped(tmp_path / "inner.zip", {"b.csv": b"y" * 1000}).read_bytes()
    local = inner[: inner.index(b"PK\x01\x02")]
    path = zipped(tmp_path / "a.zip", {"a.csv": local, "b.csv": b"y" * 1000}, zipfile.ZIP_STORED)
    patched(path, 1, OFFSET, 30 + len("a.csv"))
    assert path.read_bytes()[30 + len("a.csv") :].startswith(b"PK\x03\x04")
    assert "'b.csv'" in refusal(path)


def test_entries_in_another_order_than_the_directory_are_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"1", "b.csv": b"2"}, zipfile.ZIP_STORED)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    second, end = content.index(b"PK\x01\x02", start + 1), content.index(b"PK\x05\x06")
    path.write_bytes(content[:start] + content[second:end] + content[start:second] + content[end:])
    assert list(read(path).items()) == [("b.csv", b"2"), ("a.csv", b"1")]


# --- what cannot be read


@pytest.mark.parametrize(
    ("number", "field", "value", "name"),
    [
        (1, OFFSET, 0, "b.csv"),  # the same bytes as another entry
        (0, PACKED, 21, "b.csv"),  # reaches into the next entry
        (1, PACKED, 21, "b.csv"),  # reaches into the directory
        (0, OFFSET, 1, "a.csv"),
        (0, OFFSET, 10_000, "a.csv"),
        (0, OFFSET, 0xFFFFFFFE, "a.csv"),
        *((1, FLAGS, 1 << bit, "b.csv") for bit in (0, 6, 13)),  # encrypted
    ],
)
def test_a_directory_that_points_astray_or_an_encrypted_file_is_refused(
    tmp_path: Path, number: int, field: tuple[int, str], value: int, name: str
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"xy" * 10, "b.csv": b"yz" * 10}, zipfile.ZIP_STORED)
    said = refusal(patched(path, number, field, value))
    assert str(path) in said
    assert repr(name) in said


@pytest.mark.parametrize(
    ("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA"), (9, "Deflate64"), (77, "method 77")]
)
def test_another_compression_is_that_files_error_and_the_others_are_read(
    tmp_path: Path, method: int, name: str
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"1", "b.csv": b"2", "c.csv": b"3"})
    found = read(patched(path, 1, METHOD, method))
    said = str(found.pop("b.csv"))
    assert all(value in said for value in (str(path), "'b.csv'", name))
    assert found == {"a.csv": b"1", "c.csv": b"3"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_file_is_its_own_error_and_the_others_are_read(tmp_path: Path, temporary: Path, method: int) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"1", "b.csv": bytes(range(100)), "c.csv": b"3"}, method)
    content = bytearray(path.read_bytes())
    at = content.index(b"b.csv") + 5
    content[at : at + 3] = b"\xff\xff\xff"
    path.write_bytes(content)
    with opened_archive(path) as parts:
        assert isinstance(parts[1].content, BatchError)
        assert all(value in str(parts[1].content) for value in (str(path), "'b.csv'"))
        assert [parts[0].path.read_bytes(), parts[2].path.read_bytes()] == [b"1", b"3"]
        assert len([file for file in temporary.rglob("*") if file.is_file()]) == 2


def test_a_file_that_the_directory_calls_otherwise_is_damaged(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"1", "b.csv": b"2"})
    path.write_bytes(path.read_bytes().replace(b"b.csv", b"/.csv", 1))
    found = read(path)
    said = str(found.pop("b.csv"))
    assert all(value in said for value in (str(path), "'b.csv'", "'/.csv'"))
    assert found == {"a.csv": b"1"}


def test_an_archive_cut_off_anywhere_is_damaged(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"x" * 50, "b.csv": b"y"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert str(path) in refusal(path)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
def test_whatever_bytes_are_wrong_it_is_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, int]], in_directory: bool
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": b"x" * 50, "b.csv": bytes(range(50))})
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") if in_directory else 0
    for at, value in changes:
        content[start + at % (len(content) - start)] = value
    path.write_bytes(content)
    with contextlib.suppress(BatchError):
        read(path)
    assert is_workbook(path) is False
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


def test_an_archive_in_the_archive_is_its_own_error_and_the_others_are_read(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", {"b.csv": b"2"}).read_bytes()
    book = workbook(tmp_path / "book.xlsx").read_bytes()
    files = {"a.csv": b"1", "inner.zip": inner, "named.csv": inner[:50], "book.xlsx": book, "z.csv": b"PK\r\n"}
    path = zipped(tmp_path / "a.zip", files)
    found = read(path)
    for name in ("inner.zip", "named.csv"):
        said = str(found.pop(name))
        assert str(path) in said
        assert repr(name) in said
    assert found == {name: files[name] for name in ("a.csv", "book.xlsx", "z.csv")}


@pytest.mark.parametrize("mark", ["[Content_Types].xml", "mimetype", "Index/Document.iwa"])
def test_a_document_is_no_archive_of_filled_files(tmp_path: Path, mark: str) -> None:
    path = zipped(tmp_path / "a.ods", {mark: b"x", "content.xml": b"<x/>"})
    said = refusal(path)
    assert str(path) in said
    assert ".xlsx" in said, "what to save it as"


# --- workbooks


def test_a_workbook_is_told_from_other_archives_by_its_entries(tmp_path: Path) -> None:
    book, other, text = workbook(tmp_path / "a.zip"), zipped(tmp_path / "b.xlsx", {"a": b""}), tmp_path / "c.xlsx"
    text.write_bytes(b"PK,label\n")
    assert [is_zip(path) for path in (book, other, text)] == [True, True, False]
    assert [is_workbook(path) for path in (book, other, text)] == [True, False, False]
    assert is_zip(zipped(tmp_path / "empty.zip", {}))
    text.write_bytes(b"")
    assert not is_zip(text)
    book.write_bytes(book.read_bytes()[:-30])
    assert (is_zip(book), is_workbook(book)) == (True, False)
    lone = zipped(tmp_path / "d.docx", {"[Content_Types].xml": b"<x/>"})
    assert not is_workbook(lone)
