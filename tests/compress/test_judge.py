"""Settings, what they make of a model, and the judge that remembers its answers."""

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from edgesvit.boards.local import HostProgram  # noqa: E402
from edgesvit.compress.judge import Judge, search_images  # noqa: E402
from edgesvit.compress.precision import fixed_point, layers, units, weight_bits  # noqa: E402
from edgesvit.compress.setting import WHOLE, Setting, apply  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.errors import UsageError  # noqa: E402
from edgesvit.evaluate import program_of, unchecked_program  # noqa: E402
from edgesvit.program.file import to_bytes  # noqa: E402
from edgesvit.program.interpret import run  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402
from edgesvit.train import TrainSettings, train  # noqa: E402


@pytest.fixture
def model():
    return RunFolder(shipped_model("spikformer-digits"))


def judge(model, tmp_path, images=300):
    return Judge(model, "digits", tmp_path / "search.jsonl", images=images, jobs=2)


def test_flipped_images_are_counted(model, tmp_path):
    judged = judge(model, tmp_path)
    setting = Setting(time_steps=1)
    images = search_images("digits", 300)
    right = [HostProgram(to_bytes(judged.program(each))).run_many(images.images).argmax(1)
             == images.labels for each in (WHOLE, setting)]
    verdict = judged(setting)
    assert verdict.flipped == (right[0] != right[1]).sum() > 0
    assert abs(judged.whole.accuracy - verdict.accuracy) <= 100 * verdict.flipped / 300
    assert verdict.standard_error == pytest.approx(100 * verdict.flipped**0.5 / 300)
    assert judged.whole.flipped == judged.whole.standard_error == 0


@pytest.mark.parametrize("setting", [
    WHOLE, Setting(kept={"hidden.0": 40, "stream.0": 16}, fold_bn=True), Setting(time_steps=1),
    Setting(bits={"block.0.mlp.fc1_linear": 3}, tokens={"block.1": 0.5})])
def test_the_size_of_the_file_needs_no_judging(model, tmp_path, setting):
    judged = judge(model, tmp_path, images=20)
    size = judged.program_bytes(setting)
    assert judged.asked == 0
    assert size == judged(setting).program_bytes


def test_answers_are_remembered(model, tmp_path):
    settings = [WHOLE, Setting(bits={"head": 4}), Setting(time_steps=2), WHOLE]
    first = judge(model, tmp_path)
    verdicts = first.many(settings)
    assert first.asked == 3 and verdicts[0] == verdicts[3]
    again = judge(model, tmp_path)
    assert again.many(settings) == verdicts and again.asked == 0
    other = judge(model, tmp_path, images=200)  # another question
    assert other.whole.images == 200 and other.asked == 1


def test_a_line_cut_short_is_asked_again(model, tmp_path):
    first = judge(model, tmp_path)
    verdicts = first.many([WHOLE, Setting(time_steps=1)])
    content = first.store.read_bytes()
    first.store.write_bytes(content[:-20])
    again = judge(model, tmp_path)
    assert again.many([WHOLE, Setting(time_steps=1)]) == verdicts and again.asked == 1


def test_the_search_never_sees_the_test_split():
    search, test = search_images("digits", 400), load("digits", "test")
    seen = {image.tobytes() for image in search.images}
    train_only = [image for image in load("digits", "train").images if image.tobytes() in seen]
    assert len(search) == 400 and len(train_only) >= 400
    assert "train" in search.name and "400" in search.name
    assert (np.bincount(search.labels) > 30).all()
    assert np.array_equal(search.images, search_images("digits", 400).images)
    assert len(test) == 360


def test_a_verdict_is_of_the_bytes_that_are_deployed(model, tmp_path):
    found = judge(model, tmp_path)
    card, weights = apply(WHOLE, model.card(), model.weights())
    data = search_images("digits", 300)
    content = to_bytes(program_of(card, weights, data))
    right = HostProgram(content).run(data.images).argmax(1) == data.labels
    assert found.whole.program_bytes == len(content)
    assert found.whole.accuracy == pytest.approx(100 * right.mean())


def test_equal_settings_have_equal_keys():
    one = Setting(bits={"a": 3, "b": 4}, kept={"x": 2})
    other = Setting(kept={"x": 2}, bits={"b": 4, "a": 3})
    assert one.key() == other.key()
    assert msgspec.json.decode(one.key(), type=Setting) == one


def test_every_layer_has_its_width(model):
    card, weights = model.card(), model.weights()
    names = layers(card.config, weights)
    assert next(iter(names)) == "patch_embed.proj_conv" and list(names)[-1] == "head"
    widths = {layer: 2 + i % 7 for i, layer in enumerate(names)}
    changed, weights = apply(Setting(bits=widths), card, weights)
    program = unchecked_program(changed, weights)
    stored = [op.weight_bits for op in program.ops if hasattr(op, "weight_bits")]
    assert stored == list(widths.values())
    assert len(to_bytes(program)) < len(to_bytes(unchecked_program(card, model.weights())))
    images = load("digits", "test").images[:3]
    expected = np.stack([run(program, image) for image in images])
    assert np.array_equal(HostProgram(to_bytes(program)).run(images), expected)
    assert weight_bits(names, widths, 8) == sum(names[n] * widths[n] for n in names)


def test_units_are_attention_and_mlp():
    names = ["stem.conv", "block.0.attn.q_conv", "block.0.attn.proj_conv", "block.0.mlp.fc1",
             "head"]
    assert units(names) == {"stem.conv": ("stem.conv",), "head": ("head",),
                            "block.0.attn": ("block.0.attn.q_conv", "block.0.attn.proj_conv"),
                            "block.0.mlp": ("block.0.mlp.fc1",)}


@pytest.mark.parametrize("layer", ["head", "block.9.mlp"])
def test_an_unknown_layer_or_width_is_refused(model, layer):
    card, weights = apply(Setting(bits={layer: 9}), model.card(), model.weights())
    with pytest.raises(UsageError, match="9-bit" if layer == "head" else "9-bit|block.9"):
        unchecked_program(card, weights)
    card, weights = apply(Setting(bits={layer: 4}), model.card(), model.weights())
    if layer != "head":
        with pytest.raises(UsageError, match="block.9.mlp"):
            unchecked_program(card, weights)


def test_the_fixed_point_grid():
    weight = np.array([-1.3, -0.26, -0.01, 0.0, 0.24, 0.49, 0.99, 1.7], np.float32)
    assert fixed_point(weight, 32) is weight
    assert fixed_point(weight, 3, truncate=True).tolist() == [-1.5, -0.5, -0.25, 0, 0, 0.25, 0.75,
                                                              1.5]
    assert fixed_point(weight, 3).tolist() == [-1, -0.25, 0, 0, 0.25, 0.5, 0.75, 0.75]
    assert (np.abs(fixed_point(weight, 16)[1:7] - weight[1:7]) <= 2**-16).all()


def test_a_model_without_choice_of_steps_says_so(tmp_path):
    v3 = RunFolder(shipped_model("sdt_v3-digits"))
    with pytest.raises(UsageError, match="time steps"):
        apply(Setting(time_steps=2), v3.card(), v3.weights())


def test_fine_tuning_keeps_the_widths(model, tmp_path):
    setting = Setting(bits={"block.0.mlp.fc1_linear": 3, "head": 4})
    card, weights = apply(setting, model.card(), model.weights())
    start = RunFolder(tmp_path / "start")
    start.write_model(card, weights)
    tuned = train(TrainSettings(data="digits", run=str(tmp_path / "tuned"), start=str(start.path),
                                epochs=1, batch_size=512))
    assert tuned.card().layer_bits == setting.bits
    assert tuned.card().metrics["fake_quantized_accuracy"] > 0.8
