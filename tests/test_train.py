import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgesvit.errors import EdgesvitError, UsageError

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.architecture import Architecture, default_pool  # noqa: E402
from edgesvit.batches import evaluate  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.disk import append_line, read_lines  # noqa: E402
from edgesvit.evaluate import integer_accuracy, program_of  # noqa: E402
from edgesvit.models.checkpoints import model_from_arrays  # noqa: E402
from edgesvit.models.config import SdtV2Config, with_time_steps  # noqa: E402
from edgesvit.models.families import build  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402
from edgesvit.train import (  # noqa: E402
    TrainSettings,
    fake_quantized_accuracy,
    metrics_path,
    train,
)

TINY = Architecture(dim=16, depth=1, heads=2, time_steps=2, pool="0011", stem=(8, 8, 16, 16))


@pytest.fixture
def few(tmp_path):
    """A data set of two classes that a tiny model tells apart: bright left or bright right."""
    random = np.random.RandomState(0)
    labels = np.arange(96) % 2
    images = random.randint(0, 60, (96, 8, 8)).astype(np.uint8)
    images[labels == 0, :, :4] += 150
    images[labels == 1, :, 4:] += 150
    path = tmp_path / "few.npz"
    np.savez(path, x_train=images[:64], y_train=labels[:64], x_test=images[64:], y_test=labels[64:])
    return str(path)


@pytest.fixture
def settings(few, tmp_path):
    return TrainSettings(data=few, run=str(tmp_path / "run"), architecture=TINY, epochs=4,
                         batch_size=4, learning_rate=5e-3, warmup_epochs=0.25)


def changed(settings, **changes):
    return msgspec.structs.replace(settings, **changes)


def test_a_training_learns_and_leaves_a_whole_run_folder(settings):
    seen = []
    folder = train(settings, seen.append, command="edgesvit train ...")
    card = folder.card()
    assert card.metrics["test_accuracy"] >= 0.95 and card.metrics["test_images"] == 32
    assert card.command == "edgesvit train ..." and card.labels == ("0", "1") and card.parent == ""
    assert [row["epoch"] for row in read_lines(metrics_path(folder))] == [1, 2, 3, 4]
    assert (seen[-1].epoch, seen[-1].step, seen[-1].steps) == (4, 16, 16)
    names = {p.name for p in folder.path.iterdir()}
    assert names == {"model.json", "weights.safetensors", "metrics.jsonl", "train.json"}
    model = model_from_arrays(card.config, folder.weights())
    assert evaluate(model, load(settings.data, "test")) == card.metrics["test_accuracy"]


def test_digits_are_learned_in_seconds(tmp_path):
    shape = Architecture(dim=32, depth=1, heads=2, time_steps=2, pool="0010", stem=(16, 16, 16, 32))
    settings = TrainSettings(data="digits", run=str(tmp_path / "run"), architecture=shape, epochs=6,
                             batch_size=16, learning_rate=6e-3, warmup_epochs=0.5, shift_px=0)
    assert train(settings).card().metrics["test_accuracy"] >= 0.90


class Stop(Exception):
    pass


def interrupted_at(epoch, step, error=Stop):
    def on_progress(now):
        if (now.epoch, now.step) == (epoch, step):
            raise error

    return on_progress


@pytest.mark.parametrize(
    ("error", "changes"),
    [(Stop, {}), (KeyboardInterrupt, {}), (Stop, {"ema": 0.9, "cutout_px": 3}),
     (Stop, {"optimizer": "lamb", "weight_bits": 4})])
def test_an_interrupted_training_ends_with_the_same_weights(settings, tmp_path, error, changes):
    settings = changed(settings, **changes)
    whole = train(changed(settings, run=str(tmp_path / "whole")))
    with pytest.raises(error):
        train(settings, interrupted_at(3, 5, error))
    folder = RunFolder(settings.run)
    assert not folder.card_path.exists()
    with pytest.raises(error):  # interrupted again at once: nothing is lost
        train(settings, interrupted_at(3, 1, error))
    epochs = []
    train(settings, lambda now: epochs.append(now.epoch))
    assert set(epochs) == {3, 4}
    assert [row["epoch"] for row in read_lines(metrics_path(folder))] == [1, 2, 3, 4]
    for name, array in whole.weights().items():
        assert np.array_equal(folder.weights()[name], array), name


def test_the_same_command_after_the_end_changes_nothing(settings):
    folder = train(settings)
    before = folder.card_path.stat().st_mtime_ns
    train(settings, interrupted_at(1, 1))
    assert folder.card_path.stat().st_mtime_ns == before


def test_an_epoch_whose_state_was_lost_is_told_once(settings):
    with pytest.raises(Stop):
        train(settings, interrupted_at(3, 5))
    folder = RunFolder(settings.run)
    append_line(metrics_path(folder), {"epoch": 3, "loss": 0.0})
    train(settings)
    rows = read_lines(metrics_path(folder))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[2]["loss"] > 0


def test_a_training_that_explodes_says_so(settings):
    with pytest.raises(EdgesvitError, match="the loss became .* in epoch 1") as caught:
        train(changed(settings, learning_rate=1e30))
    assert "--lr" in caught.value.hint


def test_a_refused_command_leaves_no_folder(settings, tmp_path):
    run = tmp_path / "new"
    with pytest.raises(UsageError, match="5 heads"):
        train(changed(settings, run=str(run), architecture=Architecture(dim=16, heads=5)))
    assert not run.exists()


def test_other_settings_are_refused(settings):
    with pytest.raises(Stop):
        train(settings, interrupted_at(2, 1))
    with pytest.raises(UsageError, match="was begun with learning_rate 0.005, not 0.1") as caught:
        train(changed(settings, learning_rate=0.1))
    assert "--run" in caught.value.hint


def test_a_damaged_state_is_refused(settings):
    with pytest.raises(Stop):
        train(settings, interrupted_at(2, 1))
    state = RunFolder(settings.run).path / "train-state.pt"
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(UsageError, match="train-state.pt is damaged"):
        train(settings)


def test_fine_tuning_starts_from_the_parent(settings, tmp_path):
    parent = train(settings)
    child = train(changed(settings, run=str(tmp_path / "child"), architecture=None, epochs=1,
                          start=settings.run, learning_rate=1e-9))
    assert child.card().parent == parent.weights_sha256()
    assert child.card().config == parent.card().config
    weight = "block.0.mlp.fc1_linear.weight"
    np.testing.assert_allclose(child.weights()[weight], parent.weights()[weight], atol=1e-6)


def test_fine_tuning_needs_the_same_task_and_no_shape(settings, tmp_path):
    train(changed(settings, epochs=1))
    other = changed(settings, run=str(tmp_path / "child"), start=settings.run)
    with pytest.raises(UsageError, match="none has both"):
        train(other)
    with pytest.raises(UsageError, match="takes 8x8x1 images of 2 classes, digits has 8x8x1 of 10"):
        train(changed(other, architecture=None, data="digits"))


def test_fine_tuning_at_other_time_steps(settings, tmp_path):
    parent = train(changed(settings, epochs=1))
    start = changed(settings, run=str(tmp_path / "child"), start=settings.run, architecture=None,
                    epochs=1)
    child = train(changed(start, time_steps=3))
    assert child.card().config == with_time_steps(parent.card().config, 3)
    with pytest.raises(UsageError, match="was begun with time_steps 3, not 2"):
        train(changed(start, time_steps=2))


def test_a_folder_with_another_model_is_left_alone(settings):
    folder = train(settings)
    (folder.path / "train.json").unlink()
    with pytest.raises(UsageError, match="already holds a model"):
        train(settings)


@pytest.mark.parametrize(
    ("side", "pool"), [(8, "0001"), (16, "0001"), (28, "0011"), (32, "0011"), (64, "0111"),
                       (224, "1111")])
def test_default_pool(side, pool):
    assert default_pool((side, side)) == pool


def test_bf16_training_runs(settings):
    folder = train(changed(settings, bf16=True))
    assert folder.card().metrics["test_accuracy"] >= 0.9


def test_lamb_learns(settings):
    folder = train(changed(settings, optimizer="lamb", learning_rate=0.05))
    assert folder.card().metrics["test_accuracy"] >= 0.95


def test_an_average_over_more_steps_than_the_training_has_is_no_worse(settings):
    """Without the decay's rise, 16 steps would leave it 98 % of the untrained weights."""
    folder = train(changed(settings, ema=0.999))
    assert folder.card().metrics["test_accuracy"] >= 0.95


def test_training_with_rounded_weights_gives_a_program_of_those_weights(settings, tmp_path):
    """At 3 bits plain weights lose their accuracy in rounding, those trained for it keep it."""
    shape = Architecture(dim=16, depth=1, heads=2, time_steps=2, pool="0010", stem=(8, 8, 16, 16))
    start = changed(settings, data="digits", architecture=shape, epochs=5, batch_size=16,
                    learning_rate=6e-3, shift_px=0)
    test = load("digits", "test")
    plain = train(start)
    model = model_from_arrays(plain.card().config, plain.weights())
    before = fake_quantized_accuracy(model, test, 3)
    tuned = train(changed(start, run=str(tmp_path / "tuned"), architecture=None, start=start.run,
                          epochs=3, learning_rate=2e-3, weight_bits=3))
    card = tuned.card()
    assert card.weight_bits == 3
    assert card.metrics["fake_quantized_accuracy"] > before + 0.05
    model = model_from_arrays(card.config, tuned.weights())  # plain names, whole floats
    assert card.metrics["test_accuracy"] == evaluate(model, test)
    assert card.metrics["fake_quantized_accuracy"] == fake_quantized_accuracy(model, test, 3)
    program = program_of(card, tuned.weights(), test)
    assert max(np.abs(op.weight).max() for op in program.ops if hasattr(op, "weight")) == 3
    # With 8 bits the program is the model but for the rounding of biases and thresholds.
    eight = msgspec.structs.replace(card, weight_bits=8)
    integer = integer_accuracy(program_of(eight, tuned.weights(), test), test) / 100
    assert abs(integer - fake_quantized_accuracy(model, test, 8)) <= 0.03


def test_the_teachers_answers_are_learned(settings, tmp_path):
    """A student that hears nothing but a teacher of wrong labels learns those."""
    pixels = np.load(settings.data)
    wrong = {key: 1 - pixels[key] if key.startswith("y") else pixels[key] for key in pixels}
    np.savez(tmp_path / "wrong.npz", **wrong)
    teacher = train(changed(settings, data=str(tmp_path / "wrong.npz"), run=str(tmp_path / "t")))
    assert teacher.card().metrics["test_accuracy"] >= 0.95
    for temperature in (2.0, 0.0):
        student = train(changed(settings, run=str(tmp_path / f"s{temperature}"), seed=1,
                                teacher=str(teacher.path), distil_weight=1.0,
                                distil_temperature=temperature))
        assert student.card().metrics["test_accuracy"] <= 0.05


@pytest.mark.parametrize("taught", [False, True])
def test_a_model_with_two_classifiers_trains_both(settings, tmp_path, taught):
    parent = train(changed(settings, epochs=1))
    config = SdtV2Config(image_size=(8, 8), in_channels=1, classes=2, time_steps=2,
                         embed_dims=(8, 8, 16, 16), heads=2, mlp_ratio=1, kd=True,
                         strides=(2, 2, 1, 1, 1), blocks=(1, 1), threshold=0.2)
    card = msgspec.structs.replace(parent.card(), config=config)
    start = RunFolder(tmp_path / "two")
    start.write_model(card, build(config).state_dict())
    settings = changed(settings, run=str(tmp_path / "out"), start=str(start.path), epochs=2,
                       architecture=None, teacher=str(parent.path) if taught else "")
    folder = train(settings)
    before, after = start.weights(), folder.weights()
    for name in ("head.weight", "head_kd.weight"):
        assert np.abs(after[name] - before[name]).max() > 1e-4
    assert folder.card().metrics["test_accuracy"] >= 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"weight_bits": 9}, "9-bit weights"), ({"teacher": "runs/none"}, "runs/none holds no model")])
def test_what_cannot_be_trained_leaves_no_folder(settings, changes, words):
    with pytest.raises(UsageError, match=words):
        train(changed(settings, **changes))
    assert not Path(settings.run).exists()


@pytest.mark.timeout(180)
def test_two_processes_train_as_one(settings, tmp_path):
    """Same order, same batches, the mean gradient: near the single process from start to end."""
    settings = changed(settings, data="digits", epochs=2, batch_size=64, learning_rate=6e-3)
    single = train(settings)
    both = changed(settings, run=str(tmp_path / "both"))
    arguments = [tmp_path, WORKER, msgspec.json.encode(both).decode()]
    assert "stopped on purpose" in torchrun(*arguments, "1", succeeds=False)
    assert not RunFolder(both.run).card_path.exists()  # and the second call continues it
    torchrun(*arguments, "0")
    rows, others = (read_lines(metrics_path(RunFolder(s.run))) for s in (settings, both))
    assert [row["epoch"] for row in others] == [1, 2]
    for ours, theirs in zip(rows, others, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=0.1)
    accuracies = [f.card().metrics["test_accuracy"] for f in (single, RunFolder(both.run))]
    assert abs(accuracies[0] - accuracies[1]) <= 0.15


WORKER = """
import os, sys, msgspec
from edgesvit.train import TrainSettings, train

settings, stop_after = msgspec.json.decode(sys.argv[1], type=TrainSettings), int(sys.argv[2])
said = []
def show(now):
    said.append(now)
    if stop_after and (now.epoch, now.step) == (stop_after + 1, 2):
        raise SystemExit("stopped on purpose")
train(settings, show)
assert bool(said) == (os.environ["RANK"] == "0"), "only the first process tells its progress"
"""


GRADIENTS = """
import sys, msgspec, torch
from edgesvit.architecture import new_config
from edgesvit.batches import Batches
from edgesvit.data import load
from edgesvit.training.ranks import joined
from edgesvit.training.session import Session
from edgesvit.training.settings import TrainSettings

def main():
    torch.manual_seed(0)
    inputs, model = torch.randn(6, 3), torch.nn.Linear(3, 2)
    expected, = torch.autograd.grad(model(inputs).square().mean(), [model.weight])
    with joined() as ranks:
        shared = ranks.shared(model)
        shared(inputs[ranks.rank::ranks.world]).square().mean().backward()
        assert torch.allclose(model.weight.grad, expected), "not the whole batch's gradient"
        assert ranks.sum(torch.tensor([ranks.rank + 1.0])).item() == 3

        settings = msgspec.json.decode(sys.argv[1], type=TrainSettings)
        data = load(settings.data, "train")
        batches = Batches(data, size=8, shift_px=1, flip=False, seed=0)
        config = new_config(settings.architecture, data)
        session = Session(settings, config, data, batches.steps, ranks)
        session.run_epoch(batches, lambda progress: None)
        ours = torch.cat([p.detach().flatten() for p in session.model.parameters()])
        mean = ranks.sum(ours.clone()) / 2
        assert torch.allclose(mean, ours, atol=1e-6), "each rank learns alone"


main()
"""


@pytest.mark.timeout(120)
def test_the_gradient_is_that_of_the_whole_batch(settings, tmp_path):
    torchrun(tmp_path, GRADIENTS, msgspec.json.encode(settings).decode())


def torchrun(tmp_path, code, *arguments, succeeds=True):
    """Run `code` in two processes; returns what they say on stderr."""
    (tmp_path / "worker.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(tmp_path / "worker.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120)
    assert (run.returncode == 0) == succeeds, run.stderr[-3000:]
    return run.stderr
