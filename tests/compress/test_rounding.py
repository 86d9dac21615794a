"""Rounding that compensates: the grid it keeps to, the error it saves, and when nothing changes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgesvit.compress.judge import Judge, calibration_images  # noqa: E402
from edgesvit.compress.precision import layers  # noqa: E402
from edgesvit.compress.prunable import prunable  # noqa: E402
from edgesvit.compress.rounding import Rounder, compensated  # noqa: E402
from edgesvit.compress.setting import Setting  # noqa: E402
from edgesvit.models.checkpoints import model_from_arrays  # noqa: E402
from edgesvit.resources import shipped_model  # noqa: E402
from edgesvit.run_folder import RunFolder  # noqa: E402
from edgesvit.threads import one_torch_thread  # noqa: E402
from edgesvit.training.fake_quantize import FakeQuantized  # noqa: E402

FAMILIES = ("spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "qkformer")


def judge(family: str, tmp_path, calibration: int = 128) -> Judge:
    return Judge(RunFolder(shipped_model(f"{family}-digits")), "digits", tmp_path / "store",
                 images=400, calibration=calibration)


def inner(judged: Judge) -> list[str]:
    """All layers but the first and the classifier."""
    return [layer for layer in list(layers(judged.card.config, judged.weights))[1:]
            if not layer.startswith("head")]


def nearest(weight: np.ndarray, bits: int) -> np.ndarray:
    scale = np.abs(weight).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.rint(weight / scale) * scale


def rounded_by(weight: np.ndarray, bits: int, moments: np.ndarray) -> np.ndarray:
    return compensated(torch.from_numpy(weight), bits, torch.from_numpy(moments)).numpy()


def spikes(columns: int) -> np.ndarray:
    """Inputs that fire together, as those of neighbouring pixels do: [4096, columns]."""
    random = np.random.default_rng(1)
    causes = random.random((4096, 8)) < 0.3
    return ((causes @ random.random((8, columns))) > 0.9).astype(np.float64)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_sums_lose_less_than_by_nearest(bits):
    weight = np.random.default_rng(0).normal(size=(24, 100))
    x = spikes(100)
    rounded = rounded_by(weight, bits, x.T @ x / len(x))
    lost, before = (np.square(x @ (made - weight).T).mean(0)
                    for made in (rounded, nearest(weight, bits)))
    assert lost.mean() < 0.6 * before.mean()
    top = 2 ** (bits - 1) - 1
    steps = rounded / (np.abs(rounded).max(1, keepdims=True) / top)
    on_grid = np.abs(steps - np.rint(steps)).max(1) < 1e-9
    assert (on_grid | (rounded == weight).all(1)).all() and on_grid.mean() > 0.9


def test_inputs_that_have_nothing_in_common_are_not_compensated():
    weight = np.random.default_rng(0).normal(size=(8, 40))
    assert np.allclose(rounded_by(weight, 8, np.eye(40)), nearest(weight, 8))


def test_a_channel_of_zeros_stays_one():
    weight = np.random.default_rng(0).normal(size=(3, 40))
    weight[1] = 0
    rounded = rounded_by(weight, 3, np.eye(40))
    assert np.array_equal(rounded[1], weight[1]) and np.isfinite(rounded).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_program_finds_the_same_grid(family, tmp_path):
    judged = judge(family, tmp_path)
    names = inner(judged)
    card, weights = judged.model(Setting(bits=dict.fromkeys(names, 3)))
    model = model_from_arrays(card.config, weights)
    seen = FakeQuantized(model, card.std, card.weight_bits, card.layer_bits).rounded()
    shares = []
    for layer in names:
        ours, before = (arrays[f"{layer}.weight"] for arrays in (weights, judged.weights))
        exact = np.isclose(seen[f"{layer}.weight"].detach(), ours, rtol=1e-4, atol=1e-6)
        rows = exact.reshape(len(ours), -1).all(1)
        unchanged = (ours == before).reshape(len(ours), -1).all(1)
        assert (rows | unchanged).all() and not unchanged.all(), layer
        shares.append(rows.mean())
    assert np.mean(shares) > 0.9  # the rest did not reach their top


@pytest.mark.parametrize("family", FAMILIES)
def test_narrow_models_lose_less(family, tmp_path):
    to_nearest, ours = (judge(family, tmp_path, images) for images in (0, 128))
    setting = Setting(bits=dict.fromkeys(inner(ours), 2))
    before, after = (each(setting) for each in (to_nearest, ours))
    assert after.program_bytes == before.program_bytes
    assert after.accuracy > before.accuracy


def test_only_what_was_asked_for_changes(tmp_path):
    judged = judge("qkformer", tmp_path)
    layer = inner(judged)[3]
    for bits, changed in (({layer: 8}, set()), ({layer: 4}, {f"{layer}.weight"}),
                          ({"head": 2}, set())):
        _, weights = judged.model(Setting(bits=bits))
        assert {name for name, array in weights.items()
                if not np.array_equal(array, judged.weights[name])} == changed
    _, plain = judge("qkformer", tmp_path, 0).model(Setting(bits={layer: 4}))
    assert np.array_equal(plain[f"{layer}.weight"], judged.weights[f"{layer}.weight"])


def test_fixed_grids_round_as_published(tmp_path):
    setting = Setting(bits=dict.fromkeys(inner(judge("sdt_v1", tmp_path)), 5), grid="fixed-round")
    (_, ours), (_, plain) = (judge("sdt_v1", tmp_path, images).model(setting)
                             for images in (128, 0))
    assert all(np.array_equal(ours[name], plain[name]) for name in plain)


def test_alike_however_many_ask_at_a_time():
    folder = RunFolder(shipped_model("spikformer-digits"))
    card, weights = folder.card(), folder.weights()
    images = calibration_images("digits", 64).images
    bits = [{layer: 2 + i % 3 for layer in layers(card.config, weights)} for i in range(3)]
    alone = [Rounder(card, weights, images)(card, weights, {}, each) for each in bits]
    one = Rounder(card, weights, images)
    with one_torch_thread(), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: one(card, weights, {}, bits[i % 3]), range(12)))
    for i, made in enumerate(together):
        assert all(np.array_equal(made[name], alone[i % 3][name]) for name in made)


@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_models_are_rounded_at_the_places_that_are_left(family, tmp_path):
    judged = judge(family, tmp_path)
    model = prunable(judged.card.config, judged.weights)
    kept = model.setting(dict.fromkeys(model.names, 0.4)).kept
    bits = dict.fromkeys(inner(judged), 4)
    _, wide = judged.model(Setting(kept=kept))
    card, narrow = judged.model(Setting(kept=kept, bits=bits))
    changed = {name for name in narrow if not np.array_equal(narrow[name], wide[name])}
    assert changed == {f"{layer}.weight" for layer in bits}
    for name in changed:  # two sigma of rounding to 15 steps, and what is carried for others
        step = np.abs(wide[name]).reshape(len(wide[name]), -1).max(1) / 7
        error = (narrow[name] - wide[name]).reshape(len(step), -1)
        assert np.square(error / step[:, None]).mean() < 0.6, name
    nearest = judge(family, tmp_path / "nearest", 0)
    setting = Setting(kept=kept, bits=dict.fromkeys(inner(judged), 2))
    assert judged(setting).accuracy > nearest(setting).accuracy
    assert card.layer_bits == bits
