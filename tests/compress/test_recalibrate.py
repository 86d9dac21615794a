"""Batch-norm statistics measured anew: what they are, what they win, and when they stay."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgesvit.compress.judge import (  # noqa: E402
    Judge,
    calibration_images,
    search_images,
)
from edgesvit.compress.prunable import prunable  # noqa: E402
from edgesvit.compress.recalibrate import recalibrated  # noqa: E402
from edgesvit.compress.setting import Setting  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402
from edgesvit.threads import one_torch_thread  # noqa: E402

FAMILIES = ("spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "qkformer")


def judge(family: str, tmp_path, calibration: int) -> Judge:
    return Judge(RunFolder(shipped_model(f"{family}-digits")), "digits", tmp_path / "store",
                 images=200, calibration=calibration)


def uniform(judged: Judge, rate: float) -> Setting:
    model = prunable(judged.card.config, judged.weights)
    return model.setting(dict.fromkeys(model.names, rate))


def test_the_first_statistics_are_those_of_the_currents():
    folder = RunFolder(shipped_model("spikformer-digits"))
    card, weights = folder.card(), folder.weights()
    images = calibration_images("digits", 64).images  # one batch
    new = recalibrated(card, weights, images)
    changed = {name for name in weights if not np.array_equal(new[name], weights[name])}
    assert changed == {name for name in weights if name.endswith(("running_mean", "running_var"))}
    layer = next(name for name in weights
                 if weights[name].shape[1:] == (1, 3, 3)).removesuffix(".weight")
    pixels = (images / 255 - np.array(card.mean)) / np.array(card.std)
    currents = torch.nn.functional.conv2d(
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.from_numpy(weights[f"{layer}.weight"].astype(np.float64)), padding=1)
    norm = layer.replace("conv", "bn")
    assert new[f"{norm}.running_mean"] == pytest.approx(currents.mean((0, 2, 3)).numpy(), abs=1e-5)
    # Every time step sees the same image: the unbiased variance is that of T times the pixels.
    assert new[f"{norm}.running_var"] == pytest.approx(
        currents.var((0, 2, 3), correction=0).numpy(), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_of_all_channels_cost_less(family, tmp_path):
    as_published, ours = (judge(family, tmp_path, images) for images in (0, 128))
    before, after = (each(uniform(each, 0.5)) for each in (as_published, ours))
    assert after.program_bytes == before.program_bytes == ours.program_bytes(uniform(ours, 0.5))
    assert after.accuracy > before.accuracy
    if family != "sdt_v2":  # which loses little either way
        assert after.accuracy > before.accuracy + 15


def test_narrow_weights_of_the_model_as_given_take_part(tmp_path):
    judged = judge("spikformer", tmp_path, 128)
    layer, behind = "block.0.mlp.fc1_linear", "block.0.mlp.fc1_bn.running_var"
    images = calibration_images("digits").images
    narrow = msgspec.structs.replace(judged.card, layer_bits={layer: 2})
    as_narrow, plain = (recalibrated(card, judged.weights, images)[behind]
                        for card in (narrow, judged.card))
    assert not np.allclose(as_narrow, plain, rtol=0.02)


def test_weights_are_narrowed_behind_the_statistics(tmp_path):
    judged = judge("spikformer", tmp_path, 128)
    bits = {"block.0.mlp.fc1_linear": 2}
    card, weights = judged.model(Setting(bits=bits, time_steps=2))
    _, plain = judged.model(Setting(time_steps=2))
    changed = {name for name in weights if not np.array_equal(weights[name], plain[name])}
    assert changed == {"block.0.mlp.fc1_linear.weight"}
    assert card.layer_bits == bits


def test_what_takes_nothing_or_only_bits_changes_no_statistics(tmp_path):
    judged = judge("sdt_v3", tmp_path, 128)
    nothing = Setting(bits={"head": 8}, kept={}, tokens={}, time_steps=None)
    for setting in (Setting(), nothing, Setting(bits={"head": 3})):
        _, weights = judged.model(setting)
        assert all(np.array_equal(weights[name], judged.weights[name]) for name in judged.weights)


def test_the_sets_are_disjoint_and_named():
    calibration = calibration_images("digits", 100)
    search = search_images("digits", 400, seed=3, calibration=100)
    rest = search_images("digits", 5000, calibration=100)
    train = load("digits", "train")
    assert (len(calibration), len(search), len(rest)) == (100, 400, len(train) - 100)
    taken = {image.tobytes() for image in calibration.images}
    for other in (search, rest):
        assert not taken & {image.tobytes() for image in other.images}
    assert "train, 100 of" in calibration.name and "400 of" in search.name
    assert len(calibration_images("digits", 5000)) == len(train) // 8
    assert (np.bincount(calibration.labels) > 7).all()


def test_alike_however_many_are_judged_at_a_time(tmp_path):
    judged = judge("qkformer", tmp_path, 128)
    setting = uniform(judged, 0.3)
    _, alone = judged.model(setting)
    with one_torch_thread(), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: judged.model(setting)[1], range(8)))
    assert all(np.array_equal(one[name], alone[name]) for one in together for name in alone)
