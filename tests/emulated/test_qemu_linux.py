"""The emulated Linux board: the ssh path of a real one, and its faults."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgesvit.boards import qemu_linux
from edgesvit.boards.board_image import board_image
from edgesvit.boards.qemu_linux import emulated_board
from edgesvit.boards.ssh import SshBoard
from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.lower.compile import build
from edgesvit.targets import load
from tests import processes
from tests.fakes.serial_boards import needs

pytestmark = pytest.mark.emulated

TARGET = "qemu-aarch64"
FOLDER = ".cache/edgesvit/test"
HALF = 16 << 20  # bytes of a copy that is cut: what it has read of it until then
COUNTER = r"""
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long long counted(int fd, long n) {
    long long before = 0, after = 0;
    if (read(fd, &before, 8) != 8) return -1;
    __asm volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(n) : : "cc");
    return read(fd, &after, 8) == 8 ? after - before : -1;
}

int main(void) {
    struct perf_event_attr event = {.type = PERF_TYPE_HARDWARE, .size = sizeof event,
        .config = PERF_COUNT_HW_INSTRUCTIONS, .exclude_kernel = 1};
    int fd = (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, 0);
    for (int repeat = 0; repeat < 3; repeat++)
        printf("%lld %lld\n", counted(fd, 1000000), counted(fd, 21000000));
    return fd < 0;
}
"""


def ours(name: str) -> int:
    """Our youngest child that runs the program `name` (the kernel keeps 15 characters)."""
    return max((pid for pid in processes.children() if processes.name(pid) == name[:15]),
               key=started)


def started(pid: int) -> int:
    """When a process began, in clock ticks since boot: numbers of processes begin anew."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return -1


@pytest.fixture(scope="module")
def _image() -> None:
    needs("qemu-system-aarch64", "ssh", "scp", "ssh-keygen")
    try:
        board_image(print)
    except EdgesvitError as error:
        pytest.skip(f"needs the emulated board's image: {error.message}")


@contextlib.contextmanager
def fresh_board() -> Iterator[SshBoard]:
    """A booted board that a test may ruin; none of its processes may stay."""
    before = processes.children()
    with emulated_board(load(TARGET), lambda text: None) as board:
        yield board
    assert processes.children() == before


@pytest.fixture(scope="module")
def board(_image) -> Iterator[SshBoard]:
    with fresh_board() as board:
        yield board


def test_it_says_what_it_is(board):
    told = board.describe()
    assert told["machine"] == "aarch64" and told["cores"] == 1
    assert told["model"] == "linux,dummy-virt"
    assert "asimddp" in told["features"]  # a Cortex-A76
    assert told["perf_event_paranoid"] == 3  # root may count nevertheless
    assert told["governor"] is None and told["temperature_c"] is None


def test_files_are_copied_once(board, tmp_path):
    one, two = tmp_path / "one.sh", tmp_path / "two.bin"
    one.write_text("#!/bin/sh\nsha256sum $1\n")
    one.chmod(0o755)
    two.write_bytes(os.urandom(300_000))
    assert board.put([one, two], FOLDER) == ("one.sh", "two.bin")
    assert board.put([one, two], FOLDER) == ()
    told = list(board.run([f"{FOLDER}/one.sh", f"{FOLDER}/two.bin"], 60, 60))
    assert told == [f"{hashlib.sha256(two.read_bytes()).hexdigest()}  {FOLDER}/two.bin"]
    two.write_bytes(b"changed")
    assert board.put([one, two], FOLDER) == ("two.bin",)
    assert list(board.run(["cat", f"{FOLDER}/two.bin"], 60, 60)) == ["changed"]
    assert list(board.run(["ls", "-A", f"{FOLDER}/.incoming"], 60, 60)) == []


def test_a_file_damaged_on_the_board_is_copied_again(board, tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(5000))
    board.put([file], FOLDER)
    list(board.run(["sh", "-c", f"printf x >>{FOLDER}/weights"], 60, 60))
    assert board.put([file], FOLDER) == ("weights",)


def test_lines_come_while_the_program_runs(board):
    started_s = time.monotonic()
    lines = board.run(["sh", "-c", "echo 'a  b'; echo; sleep 4; printf end"], 60, 60)
    assert next(lines) == "a  b" and time.monotonic() - started_s < 4
    assert list(lines) == ["", "end"] and time.monotonic() - started_s > 4


def test_arguments_arrive_as_they_are(board):
    words = ["a b", "$HOME", "it's", 'say "x"', "*", "", "a\\nb"]
    assert list(board.run(["printf", "%s|", *words], 60, 60)) == ["|".join(words) + "|"]


@pytest.mark.parametrize(("script", "told"), [
    ("echo starting >&2; echo no such file >&2; exit 3", "no such file"),
    ("exit 4", "exit status 4"),
    ("exit 255", "exit status 254"),  # ssh's own status says that the connection is lost
    ("kill -SEGV $$", "signal 11|Segmentation"),
])
def test_a_failing_program_is_told(board, script, told):
    with pytest.raises(EdgesvitError, match=told) as caught:
        list(board.run(["sh", "-c", script], 60, 60))
    assert not isinstance(caught.value, Unreachable)


def test_a_missing_program_is_told(board):
    with pytest.raises(EdgesvitError, match="nonesuch"):
        list(board.run([f"{FOLDER}/nonesuch"], 60, 60))


@pytest.mark.parametrize(("script", "deadline_s", "idle_s", "told"), [
    ("sleep 60", 60, 1, "silent for 1 s"),
    ("while sleep 0.2; do echo x; done", 2, 60, "not done after 2 s"),
])
def test_waiting_ends(board, script, deadline_s, idle_s, told):
    started_s = time.monotonic()
    with pytest.raises(Unreachable, match=told):
        list(board.run(["sh", "-c", script], deadline_s, idle_s))
    assert time.monotonic() - started_s < 10


def test_a_program_nobody_listens_to_is_ended(board):
    lines = board.run(["sh", "-c", "echo up; exec sleep 4321"], 600, 600)
    assert next(lines) == "up"
    lines.close()
    deadline = time.monotonic() + 10
    while "sleep 4321" in board.run(["ps", "-o", "args"], 60, 60):
        assert time.monotonic() < deadline, "it still runs on the board"


def test_instruction_counts_are_exact(board, tmp_path):
    needs("aarch64-linux-gnu-gcc")
    source = tmp_path / "counter.c"
    source.write_text(COUNTER)
    program = build("aarch64-linux-gnu-gcc", [source], ["-O2", "-static"], "counter")
    board.put([program], FOLDER)
    first, second = (list(board.run([f"{FOLDER}/counter"], 120, 60)) for _ in range(2))
    assert first == second and len(set(first)) == 1
    short, long = map(int, first[0].split())
    assert long - short == 2 * 20_000_000


def test_another_host_key_is_refused(board, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"],
                   check=True)
    known = tmp_path / "known_hosts"
    known.write_text(f"{TARGET} {(tmp_path / 'key.pub').read_text()}")
    options = ["-o", f"UserKnownHostsFile={known}", *board._options]
    with SshBoard(TARGET, options=options) as other, pytest.raises(Unreachable) as caught:
        other.connect()
    assert "host key is not the one known" in caught.value.message
    assert f"ssh-keygen -R {TARGET}" in caught.value.hint


@pytest.mark.parametrize(("option", "told"), [
    ("UserKnownHostsFile=/dev/null", "host key is not known yet"),
    ("PubkeyAuthentication=no", "refuses the login"),
])
def test_a_stranger_is_refused(board, option, told):
    with SshBoard(TARGET, options=["-o", option, *board._options]) as other:
        with pytest.raises(Unreachable, match=told):
            other.connect()


def test_a_full_disk_on_the_board_is_told(board, tmp_path):
    list(board.run(["sh", "-c", "mkdir -p full && mount -t tmpfs -o size=1m none full"], 60, 60))
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(2 << 20))
    with pytest.raises(EdgesvitError, match="copy: .*failed to upload file") as caught:
        board.put([big], "full")
    assert not isinstance(caught.value, Unreachable) and "disk full?" in caught.value.hint
    small = tmp_path / "small.bin"
    small.write_bytes(os.urandom(1 << 19))  # there is room: the half copy is gone
    assert board.put([small], "full") == ("small.bin",)


def test_a_copy_that_is_cut_is_never_used(board, tmp_path):
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(2 * HALF))
    with _killer("scp", HALF), pytest.raises(Unreachable, match="copy: connection lost"):
        board.put([big], FOLDER)
    assert "big.bin" not in list(board.run(["ls", FOLDER], 60, 60))
    assert list(board.run(["ls", f"{FOLDER}/.incoming"], 60, 60)) == ["big.bin"]
    assert board.put([big], FOLDER) == ("big.bin",)
    assert board.put([big], FOLDER) == ()
    list(board.run(["rm", f"{FOLDER}/big.bin"], 60, 60))


def test_emulator_killed_while_copying(_image, tmp_path):
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(32 << 20))
    with pytest.raises(Unreachable, match="connection lost.*emulator has ended: SIGKILL"):
        with fresh_board() as board, _killer("qemu-system-aarch64"):
            board.put([big], FOLDER)


def test_emulator_killed_while_running(_image):
    with pytest.raises(Unreachable, match="connection lost.*emulator has ended: SIGKILL"):
        with fresh_board() as board:
            lines = board.run(["sh", "-c", "while sleep 0.1; do echo x; done"], 600, 600)
            assert next(lines) == "x"
            os.kill(ours("qemu-system-aarch64"), signal.SIGKILL)
            killed_s = time.monotonic()
            try:
                list(lines)
            finally:
                assert time.monotonic() - killed_s < 5


def test_emulator_that_hangs(_image):
    with fresh_board() as board:
        quick = ["-o", "ServerAliveInterval=1", *board._options]
        with SshBoard(TARGET, options=quick) as impatient:
            impatient.connect()
            os.kill(ours("qemu-system-aarch64"), signal.SIGSTOP)
            stopped_s = time.monotonic()
            with pytest.raises(Unreachable, match="connection lost.*not responding"):
                list(impatient.run(["true"], 600, 600))
            assert time.monotonic() - stopped_s < 10


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_we_are_ended(_image, sig):
    script = f"""
import time
from edgesvit.boards.qemu_linux import emulated_board
from edgesvit.targets import load
with emulated_board(load({TARGET!r}), lambda text: None):
    print("up", flush=True)
    time.sleep(600)
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": folder}) as process:
        try:
            assert process.stdout.readline() == b"up\n"
            left = processes.children(process.pid)
            assert {processes.name(pid) for pid in left} == {"qemu-system-aar", "ssh"}
            process.send_signal(sig)
            process.wait(10)
        finally:
            process.kill()
        deadline = time.monotonic() + 10
        while any(processes.name(pid) in ("qemu-system-aar", "ssh") for pid in left):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert sig == signal.SIGKILL or os.listdir(folder) == []


def test_a_port_that_is_taken_is_passed_over(_image, monkeypatch):
    free_port = qemu_linux._free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(qemu_linux, "_free_port", lambda: next(ports))
        with fresh_board() as board:
            assert board.describe()["machine"] == "aarch64"


def test_an_emulator_that_cannot_start_says_why(_image):
    target = load(TARGET)
    target = msgspec.structs.replace(
        target, emulator=msgspec.structs.replace(target.emulator, cpu="cortex-a1"))
    with pytest.raises(Unreachable, match="did not start.*exit status 1 .*cortex-a1"):
        with emulated_board(target, print):
            pass


def test_a_boot_that_does_not_end_is_given_up(_image, monkeypatch):
    monkeypatch.setattr(qemu_linux, "BOOT_S", 0.2)
    before = processes.children()
    with pytest.raises(Unreachable, match="no ssh server after 0 s; last on its console: empty"):
        with emulated_board(load(TARGET), print):
            pass
    assert processes.children() == before


@contextlib.contextmanager
def _killer(name: str, read_bytes: int = 0) -> Iterator[None]:
    """Kill our child `name` once it has read so much, or run a while."""
    def kill() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(ValueError):
                pid = ours(name)
                while _has_read(pid) < read_bytes:
                    time.sleep(0.005)
                time.sleep(0 if read_bytes else 0.4)
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def _has_read(pid: int) -> int:
    """Bytes that a process has read, of files and from pipes."""
    told = Path(f"/proc/{pid}/io").read_text()
    return int(told.split("rchar: ")[1].split()[0])
