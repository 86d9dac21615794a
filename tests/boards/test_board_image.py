"""The board image where no package can be had: a clear error, nothing half-made in the cache."""

import json
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from edgesvit.boards import board_image as module
from edgesvit.boards.board_image import Entry, board_image, cpio, file_entry
from edgesvit.errors import EdgesvitError
from tests.fakes.serial_boards import needs


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EDGESVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "board-image"


def names_in(archive: bytes) -> list[tuple[str, int, bytes]]:
    """(name, mode, data) of each entry of a newc archive."""
    entries, at = [], 0
    while at < len(archive):
        assert archive[at:at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        at += 110
        name = archive[at:at + fields[11] - 1].decode()
        at = -4 * (-(at + fields[11]) // 4)
        entries.append((name, fields[1], archive[at:at + fields[6]]))
        at = -4 * (-(at + fields[6]) // 4)
    return entries


def test_archives_hold_what_was_put_in():
    link = Entry(stat.S_IFLNK | 0o777, b"busybox")
    archive = cpio({"a": file_entry(b"12345", 0o600), "bin/sh": link, "empty": file_entry(b"")})
    assert names_in(archive) == [("a", 0o100600, b"12345"), ("bin/sh", 0o120777, b"busybox"),
                                 ("empty", 0o100644, b""), ("TRAILER!!!", 0, b"")]


def test_one_after_the_other_is_an_archive():
    two = cpio({"a": file_entry(b"1")}) + cpio({"b": file_entry(b"22")})
    assert [name for name, _, _ in names_in(two)] == ["a", "TRAILER!!!", "b", "TRAILER!!!"]


def test_without_network_the_error_says_what_apt_said(cache, tmp_path, monkeypatch):
    needs("apt-get", "apt-config", "apt-cache", "dpkg-deb")
    fake = tmp_path / "bin" / "apt-get"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ncase \"$*\" in *update) echo 'W: Failed to fetch: no route' >&2;;"
                    " *) echo 'E: Unable to locate package' >&2; exit 100;; esac\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(EdgesvitError, match="apt-get: Failed to fetch: no route") as caught:
        board_image(lambda text: None)
    assert "\n" not in caught.value.message and caught.value.hint
    assert list(cache.iterdir()) == []


def test_without_apt_the_error_names_the_missing_program(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgesvitError, match="needs dpkg-deb"):
        board_image(lambda text: None)


def test_two_builders_at_once_end_with_one_image(cache, monkeypatch):
    meet = threading.Barrier(2, timeout=30)

    def build(work: Path, note: object) -> Path:
        image = work / "image"
        image.mkdir()
        for name in ("vmlinuz", "initrd"):
            (image / name).write_bytes(b"whole")
        (image / "packages.json").write_text(json.dumps(["a_1_arm64.deb"]))
        meet.wait()
        return image

    monkeypatch.setattr(module, "_build", build)
    found = []
    threads = [threading.Thread(target=lambda: found.append(board_image(lambda text: None)))
               for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[0] == found[1] == board_image(lambda text: None)
    assert found[0].initrd.read_bytes() == b"whole"
    assert [path.name for path in cache.iterdir()] == [found[0].initrd.parent.name]


def test_a_killed_build_is_swept_away_later(cache, monkeypatch):
    old, new = cache / "building-old", cache / "building-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))

    def build(work: Path, note: object) -> Path:
        raise EdgesvitError("stop here")

    monkeypatch.setattr(module, "_build", build)
    with pytest.raises(EdgesvitError, match="stop here"):
        board_image(lambda text: None)
    assert list(cache.iterdir()) == [new]


def test_the_board_s_start_script_is_shell():
    checked = subprocess.run(["sh", "-n"], input=module.RCS, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
