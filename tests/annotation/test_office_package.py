"""An Office file from anywhere: its parts are read, and no file makes the reader hang, fill the memory or guess."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import pytest

from annotation.formats import office_package
from annotation.formats.office_package import MAX_TAG_BYTES, MAX_TEXT, Element, open_package
from storage.errors import BatchError

RELS = '<Relationships><Relationship Id="r1" Type="http://x/kind" Target="part.xml"/></Relationships>'


def packed(path: Path, parts: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"_rels/.rels": RELS, **parts}.items():
            archive.writestr(name, content)
    return path


def elements(path: Path, part: str = "part.xml") -> list[Element]:
    with open_package(path) as package:
        return list(package.elements(part))


def refused(path: Path, part: str = "part.xml") -> BatchError:
    with pytest.raises(BatchError) as caught:
        elements(path, part)
    assert str(path) in caught.value.what
    return caught.value


def test_elements_come_as_they_begin_and_cells_with_their_texts(tmp_path: Path) -> None:
    xml = '<x:a xmlns:x="u" n="1"><x:c r="A1"><x:f>1+<!-- -->1</x:f><x:v>2</x:v></x:c><x:b/></x:a>'
    assert [
        (e.name, {k: "".join(v) for k, v in e.texts.items()})
        for e in elements(packed(tmp_path / "p", {"part.xml": xml}))
    ] == [
        ("a", {}),
        ("c", {"f": "1+1", "v": "2"}),
        ("b", {}),
    ]


def test_text_beside_values_and_pronunciations_is_no_text_of_a_cell(tmp_path: Path) -> None:
    xml = "<a>no<si> no <r><rPr/><t>to</t></r><r><t>ge</t></r><rPh><t>TO</t></rPh><t>ther</t> no </si><t>no</t></a>"
    found = [e for e in elements(packed(tmp_path / "p", {"part.xml": xml})) if e.name == "si"]
    assert ["".join(e.texts["t"]) for e in found] == ["together"]


def test_blank_cells_are_left_out_unless_they_are_needed_to_count(tmp_path: Path) -> None:
    xml = '<row><c r="A1" s="4"/><c s="4"/><c r="C1"><v></v></c></row>'
    found = elements(packed(tmp_path / "p", {"part.xml": xml}))
    assert [(e.name, e.attributes) for e in found] == [("row", {}), ("c", {"s": "4"}), ("c", {"r": "C1"})]


@pytest.mark.parametrize("target", ["../a/b.xml", "/x/a/b.xml", "./../a/./b.xml"])
def test_parts_are_named_relative_to_the_one_that_refers_to_them(tmp_path: Path, target: str) -> None:
    rels = f'<Relationships><Relationship Id="r7" Type="http://x/sheet" Target="{target}"/></Relationships>'
    with open_package(packed(tmp_path / "p", {"x/y/_rels/part.xml.rels": rels})) as package:
        assert package.related("x/y/part.xml") == {"r7": ("sheet", "x/a/b.xml")}
        assert package.related("") == {"r1": ("kind", "part.xml")}


def test_the_case_of_a_parts_name_does_not_matter(tmp_path: Path) -> None:
    assert elements(packed(tmp_path / "p", {"xl/SharedStrings.xml": "<a/>"}), "xl/sharedStrings.xml")


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}, ".ods"),
        ({"Index/Document.iwa": "x"}, "Numbers"),
        ({"xl/workbook.bin": "x"}, ".xlsb"),
        ({"xl/vbaProject.bin": "x"}, ".xlsm"),
        ({"word/document.xml": "x"}, "Word"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, parts: dict[str, str | bytes], what: str) -> None:
    error = refused(packed(tmp_path / "p.xlsx", {"part.xml": "<a/>", **parts}))
    assert what in error.what
    assert ".xlsx" in error.hint


def test_a_zip_archive_is_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("anna.csv", "text,label\r\n")
    assert ".xlsx" in refused(path).hint


OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        (OLE2 + "Workbook".encode("utf-16-le"), "(.xls)", ".xlsx"),
        (OLE2 + "EncryptedPackage".encode("utf-16-le"), "password", "password"),
        (b"text,label\r\n", "f.xlsx", ".xlsx"),
        (b"", "f.xlsx", ".xlsx"),
        (b"PK\x03\x04" + bytes(60), "File is not a zip file", ".xlsx"),
    ],
)
def test_what_is_no_open_package_is_told_with_the_way_out(tmp_path: Path, content: bytes, what: str, hint: str) -> None:
    (tmp_path / "f.xlsx").write_bytes(content)
    error = refused(tmp_path / "f.xlsx")
    assert what in error.what
    assert hint in error.hint


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert os.strerror(errno.ENOENT) in refused(tmp_path / "none.xlsx").what


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("<a><b></a>", "mismatched tag"),
        ("<a>", "no element found"),
        ("", "no element found"),
        ('<!DOCTYPE a [<!ENTITY x "lol">]><a>&x;</a>', "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "DOCTYPE"),
        ("<a>&x;</a>", "undefined entity"),
        (f"<a><c><v>{'x' * (MAX_TEXT + 1)}</v></c></a>", f"{MAX_TEXT:,}"),
        (f"<a><c><v>{'&#10;' * (MAX_TEXT + 1)}</v></c></a>", f"{MAX_TEXT:,}"),
        (f'<a b="{"x" * (2 * MAX_TAG_BYTES)}"/>', f"{MAX_TAG_BYTES:,} bytes"),
        (f"<a><!--{'x' * (2 * MAX_TAG_BYTES)}--></a>", f"{MAX_TAG_BYTES:,} bytes"),
    ],
    ids=["tags", "cut off", "empty", "entity", "file", "no entity", "long", "long of lines", "tag", "comment"],
)
def test_xml_that_no_spreadsheet_writes_is_damage(tmp_path: Path, xml: str, says: str) -> None:
    assert says in refused(packed(tmp_path / "p.xlsx", {"part.xml": xml})).what


def test_much_text_in_many_cells_is_no_damage(tmp_path: Path) -> None:
    xml = f"<a>{('<c><v>' + 'x' * 30_000 + '</v></c>') * 100}{'<!-- x -->' * 50_000}</a>"
    assert len(elements(packed(tmp_path / "p.xlsx", {"part.xml": xml}))) == 101


def test_a_part_that_is_missing_or_broken_is_damage(tmp_path: Path) -> None:
    path = packed(tmp_path / "p.xlsx", {"part.xml": b"<a>" + bytes(range(65, 91)) * 1000 + b"</a>"})
    assert "'other.xml'" in refused(path, "other.xml").what
    content = bytearray(path.read_bytes())
    content[content.index(b"part.xml") + 20] ^= 0xFF
    path.write_bytes(content)
    refused(path)
    path.write_bytes(content[: len(content) // 2])
    refused(path)


def test_a_part_with_a_password_or_an_unusual_packing_is_damage(tmp_path: Path) -> None:
    path = packed(tmp_path / "p.xlsx", {"part.xml": "<a/>"}, zipfile.ZIP_BZIP2)
    assert "_rels/.rels" in refused(path, "_rels/.rels").what
    path = packed(tmp_path / "q.xlsx", {"part.xml": "<a/>"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1) + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path).what


def test_a_bomb_is_given_up_before_it_is_unpacked_whatever_its_directory_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office_package, "MAX_UNPACKED_BYTES", 3_000_000)
    path = packed(tmp_path / "p.xlsx", {"part.xml": f"<a>{'<b>  </b>' * 1_000_000}</a>"})
    error = refused(path)
    assert "3,000,000" in error.what
    read = []
    with open_package(path) as package, pytest.raises(BatchError):
        read.extend(element.name for element in package.elements("part.xml"))
    assert 200_000 < len(read) < 400_000


def test_the_limit_is_for_all_parts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_package, "MAX_UNPACKED_BYTES", 3_000_000)
    path = packed(tmp_path / "p.xlsx", {"part.xml": f"<a>{'<b>  </b>' * 200_000}</a>"})
    with open_package(path) as package:
        assert sum(1 for _ in package.elements("part.xml")) == 200_001
        with pytest.raises(BatchError, match="3,000,000"):
            list(package.elements("part.xml"))


def test_a_file_far_too_big_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "big.xlsx"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(office_package.MAX_FILE_BYTES + 1)
    assert f"{office_package.MAX_FILE_BYTES + 1:,}" in refused(path).what
