"""From float weights to integers: folding is exact, quantisation is as close as 8 bits allow."""

import numpy as np
import pytest

from edgesvit.boards.local import HostProgram
from edgesvit.data import normalise
from edgesvit.errors import UsageError
from edgesvit.models.config import spikformer
from edgesvit.program import build as builder
from edgesvit.program.build import emitter
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run, trace
from edgesvit.program.ops import Kind, SelfAttention

CONFIG = spikformer((8, 8), 2, 5, dim=16, depth=2, heads=2, time_steps=3, pool="0001")


def batch_norm(random: np.random.Generator, name: str, channels: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": random.uniform(-1.5, 1.5, channels),
            f"{name}.bias": random.normal(0.3, 0.3, channels),
            f"{name}.running_mean": random.normal(0, 0.2, channels),
            f"{name}.running_var": random.uniform(0.2, 2, channels)}


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """A state dict of CONFIG with the official names, drawn so that many neurons fire."""
    random = np.random.default_rng(seed)
    weights = {}
    widths = (CONFIG.in_channels, *CONFIG.stem)
    for i in range(4):
        tag = str(i) if i else ""
        weights[f"patch_embed.proj_conv{tag}.weight"] = random.normal(
            0, 0.5, (widths[i + 1], widths[i], 3, 3))
        weights |= batch_norm(random, f"patch_embed.proj_bn{tag}", widths[i + 1])
    weights["patch_embed.rpe_conv.weight"] = random.normal(0, 0.2, (16, 16, 3, 3))
    weights |= batch_norm(random, "patch_embed.rpe_bn", 16)
    for i in range(CONFIG.depth):
        shapes = {"attn.q": (16, 16), "attn.k": (16, 16), "attn.v": (16, 16),
                  "attn.proj": (16, 16), "mlp.fc1": (64, 16), "mlp.fc2": (16, 64)}
        for name, shape in shapes.items():
            weights[f"block.{i}.{name}_linear.weight"] = random.normal(0, 0.5, shape)
            weights[f"block.{i}.{name}_linear.bias"] = random.normal(0, 0.2, shape[0])
            weights |= batch_norm(random, f"block.{i}.{name}_bn", shape[0])
    weights["head.weight"] = random.normal(0, 1, (5, 16))
    weights["head.bias"] = random.normal(0, 1, 5)
    return weights


def test_a_folded_layer_equals_the_unfolded_one():
    random = np.random.default_rng(3)
    weight, bias, x = random.normal(size=(7, 4)), random.normal(size=4), random.normal(size=(9, 7))
    bn = batch_norm(random, "bn", 4)
    folded, shift = emitter.fold_batch_norm(weight, bias, bn, "bn")
    y = (x @ weight + bias - bn["bn.running_mean"]) / np.sqrt(bn["bn.running_var"] + 1e-5)
    assert np.allclose(x @ folded + shift, y * bn["bn.weight"] + bn["bn.bias"], atol=1e-12)


def test_folded_pixels_equal_normalised_ones_padding_included():
    random = np.random.default_rng(4)
    mean, std = (100 / 255, 20 / 255), (0.3, 0.2)
    weight, bias = random.normal(size=(9 * 2, 4)), random.normal(size=4)
    pixels = random.integers(0, 256, (9, 2)).astype(float)
    folded, zero, pad = emitter.fold_pixels(weight, mean, std)
    assert pad.tolist() == [100, 20]
    normalised = (pixels / 255 - mean) / std
    normalised[:3] = 0  # three taps of zero padding are three pad pixels
    pixels[:3] = pad
    currents = (pixels.reshape(-1) - zero) @ folded + bias
    assert np.allclose(currents, normalised.reshape(-1) @ weight + bias)


def test_a_grey_image_gives_the_bias_whatever_the_weights_round_to():
    weights = random_weights()
    weights["patch_embed.proj_conv.weight"] += 3.0  # rounding errors that would add up
    mean = (100 / 255, 20 / 255)
    op = builder.build(CONFIG, weights, mean, (0.2, 0.2), bits=4).ops[0]
    grey = np.tile([100, 20], 9) @ op.weight.astype(int) + op.bias
    step = op.threshold  # one in real numbers
    _, bias = emitter.fold_batch_norm(np.zeros((1, 2)), 0.0, weights, "patch_embed.proj_bn")
    assert np.abs(grey / step - bias).max() < 1 / step.min() + 0.01


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_quantisation_error_is_half_a_step(bits):
    random = np.random.default_rng(5)
    weight, bias = random.normal(size=(50, 6)), random.normal(size=6)
    q, b, scale = emitter.quantize(weight, bias, bits)
    assert np.abs(q).max() == 2 ** (bits - 1) - 1
    step = np.abs(weight).max(0) / (2 ** (bits - 1) - 1)
    assert np.all(np.abs(q * step - weight) <= step / 2 + 1e-12)
    assert np.all(np.abs(b * step - bias) <= step / 2 + 1e-12)
    assert np.allclose(scale, step)
    threshold = emitter.lif_threshold(1.0, scale)
    assert np.all(np.abs(threshold * step - 1) <= step / 2 + 1e-12)


def test_a_channel_of_zero_weights_keeps_its_bias():
    q, bias, scale = emitter.quantize(np.zeros((3, 2)), np.array([0.4, 2.5]))
    threshold = emitter.lif_threshold(1.0, scale)
    assert not q.any()
    assert 0 < bias[0] < 2 * threshold[0] and bias[1] > 2 * threshold[1]


@pytest.mark.parametrize("unit", [0.125, 0.1, 1 / 64])
def test_level_thresholds_round_halves_to_the_even_level(unit):
    currents = np.arange(-100, 600)
    levels = (currents[:, None] >= emitter.level_thresholds(4, unit)).sum(1)
    assert levels.tolist() == np.clip(np.rint(currents * unit), 0, 4).tolist()


@pytest.mark.parametrize("ratio", [1e-9, 3e-4, 0.3, 1.0, 7.5, 90_000.0])
def test_a_new_scale_is_next_to_the_ratio(ratio):
    scale, shift = emitter.requantize(np.array([ratio, ratio / 50]))
    assert 1 <= shift <= 62 and 0 <= scale.min() <= scale.max() <= 2**31 - 1
    assert np.allclose(scale / 2.0**shift, [ratio, ratio / 50], rtol=1e-4, atol=1e-15)


def test_negative_gamma_flips_the_channel():
    weights = random_weights()
    weights["patch_embed.proj_bn.weight"][:] = -1.0
    flipped = builder.build(CONFIG, weights, (0.5, 0.5), (0.2, 0.2))
    weights["patch_embed.proj_bn.weight"][:] = 1.0
    plain = builder.build(CONFIG, weights, (0.5, 0.5), (0.2, 0.2))
    assert (flipped.ops[0].weight == -plain.ops[0].weight).all()


def test_the_attention_threshold_is_exact():
    program = builder.build(CONFIG, random_weights(), (0.5, 0.5), (0.2, 0.2))
    attention = [op for op in program.ops if isinstance(op, SelfAttention)]
    assert [(op.shift, op.threshold) for op in attention] == [(3, 4 * 8)] * 2


def float_spikes(weights: dict[str, np.ndarray], image: np.ndarray, mean, std) -> dict:
    """The firing of the float model, from PyTorch, by module name: [T, ...]."""
    torch = pytest.importorskip("torch")
    from edgesvit.models.spikformer import build

    model = build(CONFIG).eval()
    state = {k: torch.tensor(v, dtype=torch.float32) for k, v in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("num_batches" in name for name in missing)
    seen = {}
    for name, module in model.named_modules():
        if name.endswith(("_lif", "_lif1", "_lif2", "_lif3")):
            module.register_forward_hook(
                lambda m, i, o, name=name: seen.__setitem__(name, o.detach().numpy()))
    x = ((image / 255 - mean) / std).transpose(2, 0, 1)[None]
    seen["logits"] = model(torch.tensor(x, dtype=torch.float32)).detach().numpy()[0]
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_integer_spikes_follow_the_float_model(seed):
    mean, std = (128 / 255, 100 / 255), (0.25, 0.3)
    weights = random_weights(seed)
    image = np.random.default_rng(seed).integers(0, 256, (8, 8, 2)).astype(np.uint8)
    seen = float_spikes(weights, image, mean, std)
    program = builder.build(CONFIG, weights, mean, std)
    codes = trace(program, image)
    first = seen["patch_embed.proj_lif"][:, 0].transpose(0, 2, 3, 1)  # [T, H, W, C]
    agree = np.mean([(codes["stem.0"] >> t & 1) == first[t] for t in range(3)])
    assert agree > 0.99
    rates = {v.name: np.mean([codes[v.name] >> t & 1 for t in range(3)])
             for v in program.values if v.kind == Kind.SPIKES}
    assert abs(rates["block.1.fc1"] - seen["block.1.mlp.fc1_lif"].mean()) < 0.05
    scale = np.abs(weights["head.weight"]).max() / 127 / (3 * program.value("stream").tokens)
    assert np.corrcoef(run(program, image) * scale, seen["logits"])[0, 1] > 0.95


def test_a_missing_tensor_is_named():
    weights = random_weights()
    del weights["block.1.mlp.fc2_linear.weight"]
    with pytest.raises(UsageError, match="block.1.mlp.fc2_linear.weight"):
        builder.build(CONFIG, weights, (0.5, 0.5), (0.2, 0.2))


@pytest.mark.parametrize("bits", [1, 9])
def test_impossible_bits(bits):
    with pytest.raises(UsageError, match="bit"):
        builder.build(CONFIG, random_weights(), (0.5, 0.5), (0.2, 0.2), bits=bits)


def test_events_of_more_steps_than_a_code_has_bits_have_no_program():
    config = spikformer((8, 8), 2, 5, dim=16, depth=2, heads=2, pool="0001", form="dvs",
                        time_steps=16)
    with pytest.raises(UsageError, match="8 time steps"):
        builder.build(config, {}, (0.0, 0.0), (1 / 255, 1 / 255))


def conv_form(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights as the authors' ImageNet code names and shapes them."""
    def shaped(name: str, value: np.ndarray) -> np.ndarray:
        if not name.endswith("_linear.weight"):
            return value
        return value[:, :, None, None] if ".mlp." in name else value[:, :, None]

    return {name.replace("_linear", "_conv"): shaped(name, value)
            for name, value in weights.items()}


def test_the_conv_form_gives_the_program_of_the_linear_form():
    from msgspec.structs import replace

    weights, args = random_weights(), ((0.5, 0.5), (0.2, 0.2))
    linear = builder.build(CONFIG, weights, *args)
    conv = builder.build(replace(CONFIG, form="conv"), conv_form(weights), *args)
    assert to_bytes(linear) == to_bytes(conv)


def follow_float(model, images: np.ndarray, mean, std, tolerance: float) -> None:
    """The model's program gives the same integers in C and in NumPy, near the float scores."""
    import torch

    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    program = builder.build(model.config, weights, mean, std)
    expected = np.stack([run(program, image) for image in images])
    assert np.array_equal(HostProgram(to_bytes(program)).run_many(images), expected)
    x = torch.from_numpy(normalise(images, mean, std))
    with torch.inference_mode():
        scores = torch.cat([model(image[None]) for image in x]).numpy()
    scale = np.abs(weights["head.weight"]).max() / 127
    count = program.time_steps * program.value(program.ops[-1].input).tokens
    assert np.abs(expected * scale / count - scores).max() < tolerance * scores.std()


# The fixtures' random weights make deep models chaotic: of SDT-V3 nothing but the first layers
# survives 8 bits, so that only the implementations are compared (test_folding compares the model).
@pytest.mark.parametrize(("family", "tolerance"), [
    ("spikformer", 0.8), ("spikformer_cifar", 0.8), ("qkformer", 0.8), ("qkformer_cifar", 0.8),
    ("sdt_v1", 0.8), ("sdt_v2", 1.5), ("sdt_v3", np.inf), ("sdt_v3_large", np.inf)])
def test_official_models_as_programs(shared, family, tolerance):
    pytest.importorskip("torch")
    from edgesvit.models.families import FAMILIES
    from tests.models.official import load

    module = FAMILIES[family.removesuffix("_cifar")]
    official = load(shared / "fixtures" / family / "public", module)
    mean, std = (0.4, 0.4, 0.4), (0.2, 0.2, 0.2)
    x = official.images.numpy().transpose(0, 2, 3, 1)  # normalised, not 0..255
    images = np.clip(np.rint(255 * (x * std + mean)), 0, 255).astype(np.uint8)
    assert not images[0].flags.c_contiguous  # the host must copy it
    follow_float(official.model, images, mean, std, tolerance)


@pytest.mark.parametrize("form", ["imagenet", "cifar"])
def test_qkformer_as_a_program(form):
    torch = pytest.importorskip("torch")
    from edgesvit.models.config import qkformer
    from edgesvit.models.qkformer import build

    torch.manual_seed(0)
    config = qkformer((32, 32), 2, 5, dim=32, depth=4, heads=2, time_steps=3, form=form)
    model = build(config).eval()
    for name, tensor in model.state_dict().items():
        if "_bn." in name and not name.endswith("num_batches_tracked"):
            low = 0.5 if name.endswith(("weight", "var")) else 0.2
            tensor.uniform_(low, 1.5)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 2)).astype(np.uint8)
    program = builder.build(config, {k: v.numpy() for k, v in model.state_dict().items()},
                            (0.4, 0.4), (0.3, 0.3))
    kinds = {type(op).__name__ for op in program.ops}
    assert {"TokenAttention", "SelfAttention"} <= kinds
    assert any(getattr(op, "pool", 0) for op in program.ops)
    follow_float(model, images, (102 / 255,) * 2, (0.3, 0.3), tolerance=1.5)
