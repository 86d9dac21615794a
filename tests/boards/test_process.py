"""Child processes: every end is noticed, none is left behind."""

import signal
import subprocess
import sys

import pytest

from edgesvit.boards import process
from edgesvit.errors import EdgesvitError, Unreachable
from tests.processes import gone


def shell(script: str, deadline_s: float = 30, idle_s: float = 30) -> list[str]:
    return list(process.lines(["sh", "-c", script], "board", deadline_s, idle_s))


def test_lines_come_without_their_newline():
    assert shell("printf 'a b\\n\\nc\\n'") == ["a b", "", "c"]


def test_the_last_words_of_a_failing_program_are_told():
    with pytest.raises(EdgesvitError, match="board: no such weights") as caught:
        shell("echo one >&2; echo no such weights >&2; exit 3")
    assert caught.value.exit_code == 1


def test_a_killed_program_is_unreachable():
    with pytest.raises(Unreachable, match="SIGKILL"):
        shell("echo started; kill -9 $$")


def test_silence_ends_in_unreachable():
    with pytest.raises(Unreachable, match="silent for 0.3 s"):
        shell("sleep 60", idle_s=0.3)


def test_a_program_that_talks_forever_meets_the_deadline():
    with pytest.raises(Unreachable, match="not done after 0.5 s"):
        shell("while :; do echo x; sleep 0.05; done", deadline_s=0.5)


def test_leaving_early_ends_the_program(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; echo ready; sleep 60"
    lines = process.lines(["sh", "-c", script], "board", 30, 30)
    assert next(lines) == "ready"
    lines.close()
    assert gone(int(pid_file.read_text()))


def test_a_child_dies_with_its_parent(tmp_path):
    pid_file = tmp_path / "pid"
    code = ("import sys, time; from edgesvit.boards.process import start\n"
            f"p = start(['sleep', '60']); open({str(pid_file)!r}, 'w').write(str(p.pid))\n"
            "print('ready', flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"ready\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(int(pid_file.read_text()))
