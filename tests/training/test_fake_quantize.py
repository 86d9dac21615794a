import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from torch import nn  # noqa: E402

from edgesvit.architecture import Architecture, new_config  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.models.families import FAMILIES, build  # noqa: E402
from edgesvit.models.rep_conv import BnAndPad, bn_scale_shift  # noqa: E402
from edgesvit.program import build as builder  # noqa: E402
from edgesvit.program import interpret  # noqa: E402
from edgesvit.program.build import emitter  # noqa: E402
from edgesvit.training.fake_quantize import FakeQuantized  # noqa: E402
from tests.models.official import load as load_official  # noqa: E402
from tests.program.test_folding import fine, head  # noqa: E402, F401

FINE = 2**22


@pytest.fixture
def only_weights_round(fine, monkeypatch):  # noqa: F811
    """Programs whose weights have 8 bits, and whose biases, thresholds and membranes are fine."""
    def quantize(weight, bias, bits=8, largest=1.0):
        scale = np.maximum(np.abs(weight).max(0) / (2 ** (bits - 1) - 1), 1e-12)
        return (FINE * np.rint(weight / scale).astype(np.int64),
                np.rint(FINE * bias / scale).astype(np.int64), scale / FINE)

    monkeypatch.setattr(emitter, "quantize", quantize)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", ["spikformer", "spikformer_cifar", "qkformer", "qkformer_cifar",
                                    "sdt_v1", "sdt_v2", "sdt_v3"])
def test_the_rounded_weights_are_the_programs(shared, family, bits, fine,  # noqa: F811
                                              only_weights_round):
    """Logits equal those of a program that differs by nothing but its weights, in every family.

    A program takes one constant from the float weights, what the border inside a RepConv adds to
    the currents: it is 0 here.
    """
    official = load_official(shared / "fixtures" / family / "public",
                             FAMILIES[family.removesuffix("_cifar")])
    mean, std = (100 / 255, 50 / 255, 0.0), (0.1, 0.2, 0.5)
    x = official.images.numpy()[:2].transpose(0, 2, 3, 1)
    images = np.clip(np.rint(64 * (x + 2)), 0, 255).astype(np.uint8)
    model = official.model.double().eval()
    for padding in (m for m in model.modules() if isinstance(m, BnAndPad)):
        _, shift = bn_scale_shift(padding.bn)
        padding.bn.bias.data -= shift.detach()
    rounded = FakeQuantized(model, std, bits).eval()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    program = builder.build(model.config, weights, mean, std, bits=bits)
    heads = {name: t.detach().numpy() for name, t in rounded.rounded().items() if "head" in name}
    for image in images:
        env = interpret.trace(program, np.ascontiguousarray(image))
        x = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[None])
        with torch.inference_mode():
            ours, plain = rounded(x)[0].numpy(), model(x)[0].numpy()
        expected = head(program, env, {"head.bias": weights["head.bias"]} | heads, fine)
        assert np.abs(ours - expected).max() < 1e-5
        if bits == 4:
            assert np.abs(ours - plain).max() > 1e-3  # the rounding is seen in the logits


@pytest.fixture
def model():
    torch.manual_seed(1)
    shape = Architecture(dim=16, depth=1, heads=2, time_steps=2)
    return build(new_config(shape, load("digits", "train")))


def test_the_classifier_is_rounded_as_the_program_rounds_it(model):
    model.head.weight.data.normal_()
    rounded = FakeQuantized(model, (0.3,), 8).rounded()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    last = builder.build(model.config, weights, (0.4,), (0.3,)).ops[-1]
    scale = np.abs(weights["head.weight"]).max() / 127
    np.testing.assert_allclose(rounded["head.weight"].detach().numpy().T, last.weight * scale,
                               atol=1e-6)


def test_two_classifiers_are_rounded_as_their_sum(model):
    model.head_kd = nn.Linear(16, 10)
    rounded = FakeQuantized(model, (0.3,), 4).rounded()
    total = (model.head.weight + model.head_kd.weight).detach()
    scale = total.abs().max() / 7
    ours = rounded["head.weight"] + rounded["head_kd.weight"]
    torch.testing.assert_close(ours.detach(), (total / scale).round() * scale)


def test_gradients_go_straight_to_the_float_weights_whose_names_stay(model):
    rounded = FakeQuantized(model, (0.3,), 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = rounded.rounded()
    torch.stack([(w * w.detach()).sum() for w in weights.values()]).sum().backward()
    for name, weight in weights.items():
        torch.testing.assert_close(model.get_parameter(name).grad, weight.detach())
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv1d | nn.Linear)]
    assert len(weights) == len(convolutions)


def test_a_channel_of_zeros_stays_one(model):
    model.patch_embed.proj_conv.weight.data[1] = 0
    weight = FakeQuantized(model, (0.3,), 8).rounded()["patch_embed.proj_conv.weight"]
    assert torch.isfinite(weight).all() and not weight[1].any() and weight[0].any()
