"""Files in a real S3 server: there whole or not at all, and every refusal told with the way out, without a secret."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import BUCKET, S3

from storage.errors import StoreError
from storage.files.object_store import ObjectStore, root_faults

ROOT = Path(__file__).parents[3]


def test_files_are_written_listed_read_and_removed_under_any_name(shared_root: str) -> None:
    store = ObjectStore(f"{shared_root}/deep folder/ü/")
    assert store.listing("batches") == {}
    for name in ("batches/b 1/ä=1%.csv", "batches/b 1/manifest.json", "inbox/x"):
        store.put(name, name.encode())
    found = store.listing("batches")
    assert {name: each.size_bytes for name, each in found.items()} == {
        "batches/b 1/ä=1%.csv": 21,
        "batches/b 1/manifest.json": 25,
    }
    assert store.get("batches/b 1/ä=1%.csv") == "batches/b 1/ä=1%.csv".encode()
    store.put("inbox/x", b"")
    assert store.get("inbox/x") == b""
    for _ in range(2):
        store.delete("inbox/x")
        assert store.get("inbox/x") is None
        assert store.listing("inbox") == {}


def test_a_bucket_that_is_missing_is_told_by_every_operation(shared_root: str) -> None:
    store = ObjectStore("s3://no-such-bucket/pal")
    for action in (
        lambda: store.listing("batches"),
        lambda: store.put("batches/x", b"1"),
        lambda: store.put("batches/large", b"1" * 20_000_000),
    ):
        with pytest.raises(StoreError, match="s3://no-such-bucket/pal/batches") as told:
            action()
        assert "AWS_ACCESS_KEY_ID" in told.value.hint


def test_refused_credentials_are_told_without_them_and_accepted_ones_go_on(shared_root: str, s3: S3) -> None:
    store = ObjectStore(shared_root)
    store.put("x", b"1")
    with s3.refusing():
        for action in (lambda: store.listing(""), lambda: store.get("x"), lambda: store.put("x", b"2")):
            with pytest.raises(StoreError, match=re.escape(shared_root)) as told:
                action()
            assert "secret-word" not in str(told.value) + repr(told.value.__cause__)
    assert store.get("x") == b"1"
    store.put("x", b"2")
    assert store.get("x") == b"2"


def test_a_secret_in_an_errors_words_is_not_told(monkeypatch: pytest.MonkeyPatch, shared_root: str) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-such-bucket")
    with pytest.raises(StoreError) as told:
        ObjectStore("s3://no-such-bucket/pal").listing("x")
    assert "***" in told.value.what
    assert "no-such-bucket" not in told.value.what.replace("s3://no-such-bucket/pal", "")


def test_a_large_file_is_not_there_before_it_is_whole(shared_root: str, s3: S3) -> None:
    store = ObjectStore(shared_root)
    content = b"0123456789" * 2_500_000  # several parts
    with s3.refusing(after=2), pytest.raises(StoreError):
        store.put("large", content)
    assert store.get("large") is None
    store.put("large", content)
    assert store.get("large") == content


def test_a_root_that_cannot_be_is_a_fault_and_a_password_in_it_is_not_repeated() -> None:
    for good in (
        "",
        f"s3://{BUCKET}/a b",
        "gs://b",
        "abfss://c@account.dfs.core.windows.net/f",
        "s3://b?region=eu-west-1",
    ):
        assert root_faults(good) == []
    for bad in ("bucket/folder", "s3://", "http://x/y", "/mnt/x", "file:///mnt", "s3://[", "s3:bucket"):
        assert len(root_faults(bad)) == 1, bad
    for secret in ("s3://me:secret-word@b/f", "s3://secret-word@b/f", "s3://b/f?secret_key=secret-word", "s3://b/../f"):
        (fault,) = root_faults(secret)
        assert "secret-word" not in fault


def test_arrows_clients_are_loaded_only_where_there_is_a_store(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom storage.workspace import Workspace\n"
        f"here = Workspace(pathlib.Path({str(tmp_path)!r}))\n"
        "for act in (here.make, here.pull, here.push, here.fetch_encoders): act()\n"
        "print('pyarrow.fs' in sys.modules, sorted(path.name for path in here.root.iterdir()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.split(maxsplit=1)[0] == "False", ran.stdout
    assert ".files" not in ran.stdout
