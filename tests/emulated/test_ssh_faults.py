"""The ssh path against a real server: names made for a shell, unknown keys, lines that break."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import edgesvit
from edgesvit import targets
from edgesvit.boards.board_image import board_image
from edgesvit.boards.hosts import boards_file
from edgesvit.boards.qemu_linux import emulated_board
from edgesvit.boards.ssh import SshBoard
from edgesvit.errors import EdgesvitError
from edgesvit.lower.native import lower
from edgesvit.program import interpret
from edgesvit.resources import shipped_model
from tests.fakes.cut_line import cut_line, cuts
from tests.fakes.serial_boards import needs, small_program, write_program
from tests.program.programs import random_image

pytestmark = pytest.mark.emulated
CUTS = int(os.environ.get("EDGESVIT_SSH_CUTS", "2"))  # benchmarks/ssh_cuts.py makes 20
HOSTILE = """a 'b' "c" $(touch pwned) `touch pwned` [/red] *\n; touch pwned #"""
TARGET = targets.load("rpi5")


@pytest.fixture(scope="module")
def board() -> Iterator[SshBoard]:
    """An emulated board that stands in for a Raspberry Pi 5. It counts nothing, so it is quick."""
    needs("qemu-system-aarch64", "aarch64-linux-gnu-gcc", "ssh", "scp", "ssh-keygen")
    try:
        board_image(print)
    except EdgesvitError as error:
        pytest.skip(f"needs the emulated board's image: {error.message}")
    emulated = targets.load("qemu-aarch64")
    emulator = msgspec.structs.replace(emulated.emulator, icount_shift=None)
    with emulated_board(msgspec.structs.replace(emulated, emulator=emulator), print) as board:
        yield board


@pytest.fixture(autouse=True)
def _own_config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def called(folder, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "edgesvit", *words], capture_output=True,
                          text=True, cwd=folder, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(Path(edgesvit.__file__).parents[1])})


def test_names_are_never_executed(board, tmp_path):
    """Model, run folder and working folder; here and on the board."""
    here = tmp_path / HOSTILE.replace("/", "_")
    shutil.copytree(shipped_model("spikformer-digits"), here / HOSTILE.replace("/", "_"))
    with cut_line(board, TARGET):
        done = called(here, "deploy", "--target", "rpi5", "--images", "1", "--model",
                        HOSTILE.replace("/", "_"), "--run", str(here / "run [/red] $(touch pwned)"))
    assert done.returncode == 0, done.stderr
    assert "1/1" in done.stdout and "Traceback" not in done.stderr
    assert list(tmp_path.rglob("pwned")) == []
    assert list(board.run(["find", "/", "-xdev", "-name", "pwned"], 60, 60)) == []


def test_no_such_host_name_reaches_ssh(tmp_path):
    host = "pi 'x' \"y\" $(touch pwned)\ntouch pwned"  # tests/boards/test_hosts.py has more
    boards_file().parent.mkdir(parents=True)
    boards_file().write_text(f"[rpi5]\nhost = {msgspec.json.encode(host).decode()}\n")
    done = called(tmp_path, "deploy", "--target", "rpi5", "--images", "1", "--run", "run")
    assert done.returncode == 2, done.stderr
    assert "is no host name" in done.stderr and len(done.stderr.splitlines()) == 2
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.parametrize("folder", [HOSTILE, "a b", "$(touch pwned)", "../up", "-rf", "a\nb"])
def test_no_such_folder_reaches_the_board(board, folder, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(EdgesvitError, match="cannot be a name on a board"):
        board.put([file], folder)


def test_an_unknown_host_key_is_refused_with_what_to_type(board, tmp_path):
    """The very command: with the port and the options that we would have used."""
    empty = tmp_path / "known hosts"
    with cut_line(board, TARGET) as line:
        entry = boards_file().read_text()
        known = next(word for word in entry.split('"') if word.startswith("UserKnownHostsFile="))
        boards_file().write_text(entry.replace(known, f"UserKnownHostsFile={empty}").replace(
            "StrictHostKeyChecking=yes", "StrictHostKeyChecking=ask"))
        done = called(tmp_path, "deploy", "--target", "rpi5", "--images", "1", "--run", "run")
    assert done.returncode == 4
    assert "its host key is not known yet" in done.stderr
    hint = done.stderr.splitlines()[-1]
    assert f"Port={line.port}" in hint and f"'UserKnownHostsFile={empty}'" in hint
    assert hint.endswith(f" {board.host}") and not empty.exists()


def test_a_line_that_is_cut_costs_what_is_missing(board, tmp_path):
    """Each time one clear error; the rerun is right, and what had arrived is not copied again."""
    program = small_program()
    path, _ = write_program(program, tmp_path)
    images = np.stack([random_image(program, i) for i in range(2)])
    expected = np.stack([interpret.run(program, image) for image in images])
    for seen in cuts(board, TARGET, lower(path, TARGET), images, expected, CUTS, seed=8):
        if error := seen["error"]:  # a cut may come after the last line
            assert error.exit_code == 4 and error.hint and "\n" not in error.message
        assert seen["kept"] == seen["there"] and len(seen["after"]) == 2
        if seen["there"]:
            assert seen["bytes"] < seen["whole_bytes"] / 20
