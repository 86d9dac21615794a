"""`edgesvit train`, called as a user calls it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgesvit.cli import main
from edgesvit.disk import read_lines
from edgesvit.run_folder import RunFolder

pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

ROOT = Path(__file__).parents[2]
SHAPE = ["--dim", "16", "--depth", "1", "--heads", "2", "--time-steps", "2"]


@pytest.fixture
def few(tmp_path) -> str:
    """Sixteen images of noise in two classes: enough to see every path."""
    images = np.random.RandomState(0).randint(0, 256, (16, 8, 8)).astype(np.uint8)
    labels = np.arange(16) % 2
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return str(tmp_path / "few.npz")


def edgesvit(*arguments: str) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return stopped.value.code


def test_the_answer_is_on_stdout_and_progress_on_stderr(few, tmp_path, capsys):
    run = tmp_path / "run"
    code = edgesvit("train", "--data", few, "--run", run, *SHAPE, "--epochs", 2, "--json")
    out, err = capsys.readouterr()
    assert code == 0, err
    document = json.loads(out)
    assert document["schema_version"] == 1 and document["config"]["time_steps"] == 2
    assert document["metrics"]["test_images"] == 16
    assert document["command"] == (f"edgesvit train --data {few} --run {run} --epochs 2 --dim 16 "
                                   "--depth 1 --heads 2 --time-steps 2")
    assert "epoch 2/2" in err
    tuned = tmp_path / "tuned"
    code = edgesvit("train", "--data", few, "--run", tuned, "--from", run, "--epochs", 1,
                    "--time-steps", 3, "--no-flip")
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "spikformer, 7,464 parameters, 2 heads, 3 time steps" in out and "float accuracy" in out
    assert RunFolder(tuned).card().parent == RunFolder(run).weights_sha256()
    assert RunFolder(tuned).card().command.endswith("--epochs 1 --time-steps 3 --no-flip")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from", "runs/none", "--dim", "32"], "--dim cannot change the model of --from"),
        (["--from", "runs/none"], "runs/none holds no model"),
        (["--stem", "8,x,8,16"], "--stem 8,x,8,16 is not four whole numbers"),
        (["--dim", "16", "--heads", "3"], "dim 16 cannot be split into 3 heads"),
        (["--data", "nothing"], "unknown data 'nothing'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(few, tmp_path, capsys, options,
                                                              words):
    run = tmp_path / "run"
    assert edgesvit("train", "--data", few, "--run", run, *options) == 2
    out, err = capsys.readouterr()
    assert words in err and "hint: " in err and "Traceback" not in err
    assert out == "" and not run.exists()


def test_ctrl_c_exits_130_and_the_same_command_continues(few, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "edgesvit", "train", "--data", few, "--run", str(run), *SHAPE,
               "--epochs", "400", "--batch-size", "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    for line in process.stderr:
        if line.startswith("epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert "the same command continues" in err and "Traceback" not in err
    done = len(read_lines(run / "metrics.jsonl"))
    assert 2 <= done < 400 and not RunFolder(run).card_path.exists()

    again = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE,
                             stdout=subprocess.DEVNULL)
    first = next(line for line in again.stderr if line.startswith("epoch"))
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    # The signal may have come between an epoch's line of metrics and its state.
    assert first.startswith((f"epoch {done + 1}/", f"epoch {done}/"))
