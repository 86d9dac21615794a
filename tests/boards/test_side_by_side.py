"""Several boards at once: order, faults, and one Ctrl-C for all of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from edgesvit import targets
from edgesvit.boards.side_by_side import side_by_side
from edgesvit.errors import EdgesvitError, Unreachable
from tests import processes
from tests.fakes.serial_boards import needs
from tests.processes import gone

RPI5, JETSON, HOST, MCU = (targets.load(name) for name in (
    "rpi5", "jetson-orin-nano", "host", "qemu-mps2-an386"))


def fail(error: BaseException) -> None:
    raise error


def test_real_boards_work_at_the_same_time():
    meet = threading.Barrier(2, timeout=20)  # broken unless both are there
    both = side_by_side([RPI5, JETSON], [partial(meet.wait), partial(meet.wait)])
    assert sorted(both) == [0, 1]


def test_results_keep_their_order_and_a_fault_loses_nothing():
    lost, late = Unreachable("rpi5: away"), threading.Event()
    given = side_by_side([RPI5, JETSON, MCU], [
        partial(fail, lost), lambda: late.wait(20), lambda: late.set() or "mcu"])
    assert given == [lost, True, "mcu"]


def test_this_machine_goes_first_and_alone():
    said = []
    jobs = [partial(said.append, name) for name in ("rpi5", "host", "host again")]
    side_by_side([RPI5, HOST, HOST], jobs)
    assert said == ["host", "host again", "rpi5"]
    given = side_by_side([HOST, RPI5], [partial(fail, EdgesvitError("no")), lambda: 1])
    assert isinstance(given[0], EdgesvitError) and given[1] == 1


def test_a_fault_of_our_own_ends_all():
    with pytest.raises(ZeroDivisionError):
        side_by_side([RPI5, JETSON], [lambda: 1 / 0, partial(threading.Event().wait, 0.2)])


CTRL_C = """
import contextlib, sys, time
from edgesvit import targets
from edgesvit.boards import process
from edgesvit.boards.side_by_side import side_by_side
from edgesvit.errors import EdgesvitError

def say(text):
    sys.stdout.write(text + "\\n")  # at once: others speak too
    sys.stdout.flush()

def watch(name):
    try:
        while True:
            with contextlib.suppress(EdgesvitError):  # it must not start another
                for line in process.lines(["sh", "-c", "echo $$; sleep 600"], name, 600, 600):
                    say(line)
    finally:
        say("tidy")

def sleep():
    say("0")
    time.sleep(600)

boards = [targets.load(name) for name in ("rpi5", "qemu-mps2-an386", "jetson-orin-nano")]
try:
    side_by_side(boards, [lambda: watch("a"), lambda: watch("b"), sleep])
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_ends_all_and_leaves_no_process():
    """Two that wait for a process, one that sleeps."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True,
                          env=environment) as ours:
        try:
            pids = [int(ours.stdout.readline()) for _ in range(3)]
            ours.send_signal(signal.SIGINT)
            assert ours.wait(30) == 130
            assert ours.stdout.read().split() == ["tidy", "tidy"]
        finally:
            ours.kill()
    assert all(gone(pid) for pid in pids if pid)


@pytest.mark.parametrize("verb", ["deploy", "measure"])
def test_one_board_away_loses_no_other_s_result(verb, tmp_path):
    """And the exit code is that of the first that failed."""
    script = "[rpi5]\nhost = \"no-such-board.invalid\"\n[rpi4]\nhost = \"a b\"\n"
    (tmp_path / "edgesvit").mkdir()
    (tmp_path / "edgesvit/boards.toml").write_text(script)
    quick = ["--windows", "1", "--seconds", "0.05", "--idle", "0"] if verb == "measure" else []
    done = subprocess.run(
        [sys.executable, "-m", "edgesvit", verb, "--target", "rpi5,host,rpi4", "--images", "2",
         "--run", str(tmp_path / "run"), "--json", *quick], capture_output=True, text=True,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)})
    assert done.returncode == 4, done.stderr
    said = json.loads(done.stdout)
    assert [result["target"] for result in said["results"]] == ["host"]
    assert [(error["target"], error["exit_code"]) for error in said["errors"]] == [
        ("rpi5", 4), ("rpi4", 2)]
    assert len((tmp_path / "run/results.jsonl").read_text().splitlines()) == 1


@pytest.mark.emulated
def test_ctrl_c_ends_every_emulator(tmp_path):
    """A deployment to two emulated boards, interrupted while both are up."""
    needs("qemu-system-arm", "arm-none-eabi-gcc")
    with subprocess.Popen(
            [sys.executable, "-m", "edgesvit", "deploy", "--target",
             "qemu-mps2-an386,qemu-mps3-an547", "--images", "300", "--run", str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ours:
        try:
            emulators: set[int] = set()
            while len(emulators) < 2:
                assert ours.poll() is None, ours.stderr.read()
                time.sleep(0.1)
                emulators = {pid for pid in processes.children(ours.pid)
                             if "qemu-system" in processes.name(pid)}
            ours.send_signal(signal.SIGINT)
            assert ours.wait(30) == 130
            assert ours.stderr.read().splitlines()[-1] == "interrupted"
        finally:
            ours.kill()
    assert all(gone(pid) for pid in emulators)
