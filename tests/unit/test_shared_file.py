"""SQLite files that processes share: opened while another process writes to them."""

from __future__ import annotations

import sqlite3

import pytest

from hwsim.core import shared_file
from hwsim.core.shared_file import open_shared


@pytest.fixture
def writer(tmp_path):
    """Another's connection to a file without a write-ahead log, in the middle of a transaction."""
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("create table things (name text)")
    other.execute("begin immediate")
    other.execute("insert into things values ('one')")
    yield other
    other.close()


def test_file_that_another_writes_to_is_asked_again(tmp_path, monkeypatch, writer):
    pauses = []

    def end_transaction(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            writer.execute("commit")

    monkeypatch.setattr(shared_file.time, "sleep", end_transaction)
    disk = open_shared(tmp_path / "a.sqlite", 60.0, "normal")
    assert len(pauses) == 3
    assert disk.execute("select name from things").fetchall() == [("one",)]
    assert disk.execute("pragma journal_mode").fetchone() == ("wal",)
    assert disk.execute("pragma synchronous").fetchone() == (1,)
    disk.close()


def test_file_that_stays_locked_is_an_error(tmp_path, writer):
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_shared(tmp_path / "a.sqlite", 0.0, "off")
    writer.execute("rollback")
    disk = open_shared(tmp_path / "a.sqlite", 0.0, "off")  # nothing is left behind by the attempt before
    assert disk.execute("select name from things").fetchall() == []
    disk.close()


def test_file_of_another_kind_is_an_error_at_once(tmp_path, monkeypatch):
    (tmp_path / "a.sqlite").write_text("no database, and longer than its header of a hundred bytes " * 4)
    monkeypatch.setattr(shared_file.time, "sleep", lambda seconds: pytest.fail("asked again"))
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_shared(tmp_path / "a.sqlite", 60.0, "off")


def test_folder_is_made(tmp_path):
    disk = open_shared(tmp_path / "b" / "c" / "a.sqlite", 0.0, "off")
    disk.execute("create table things (name text)")
    disk.close()
    assert (tmp_path / "b" / "c" / "a.sqlite").stat().st_size > 0
