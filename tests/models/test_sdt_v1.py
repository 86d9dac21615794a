import msgspec
import numpy as np
import pytest
import torch

from edgesvit.errors import UsageError
from edgesvit.models import sdt_v1 as family
from edgesvit.models.config import SdtV1Config, sdt_v1
from edgesvit.models.lif import Lif
from edgesvit.models.sdt_v1 import build, recognise
from tests.models.official import load, logit_errors, spikes_of


@pytest.fixture(scope="module")
def official(shared):
    return load(shared / "fixtures" / "sdt_v1" / "public", family)


def test_logits_equal_the_official_code(official):
    assert max(logit_errors(official)) <= 1e-4


def test_every_spike_equals_the_official_code(official):
    _, seen = spikes_of(official.model, official.images)
    for name in official.spikes.files:
        expected = official.spikes[name]
        # talking_heads_lif: here one channel axis, there heads x head width; the same order.
        assert np.array_equal(seen[name].numpy().reshape(expected.shape), expected), name
    counts = {name: out.sum(tuple(range(1, out.ndim))).tolist() for name, out in seen.items()}
    assert counts == official.counts


def busy(config: SdtV1Config):
    """A model of this shape in float64 whose neurons fire at moderate rates."""
    torch.manual_seed(5)
    model = build(config).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 1.0, 2.0)
            torch.nn.init.uniform_(module.bias, -0.5, 1.0)
            module.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, config.in_channels, *config.image_size, dtype=torch.float64))
    return model.eval()


SMALL = sdt_v1((9, 12), 2, 5, dim=16, depth=2, heads=2, time_steps=3, pool="0101")


def test_frames_of_a_still_image_equal_the_image():
    model, images = busy(SMALL), torch.randn(3, 2, 9, 12, dtype=torch.float64)
    frames = images[:, None].expand(3, 3, 2, 9, 12)  # [B, T, C, H, W]
    assert torch.allclose(model(images), model(frames), rtol=0, atol=1e-12)


def test_event_frames_bring_their_own_t_and_keep_their_order():
    model, frames = busy(SMALL), torch.randn(2, 7, 2, 9, 12, dtype=torch.float64)
    _, seen = spikes_of(model, frames)
    assert {len(spikes) for spikes in seen.values()} == {7}
    changed = frames.clone()
    changed[1, 5:] += 1  # only the second sample, only the last two steps
    _, after = spikes_of(model, changed)
    for name, spikes in seen.items():
        assert torch.equal(spikes[:5], after[name][:5]), name
        assert torch.equal(spikes[:, 0], after[name][:, 0]), name
    assert not torch.equal(seen["block.1.mlp.fc2_lif"][5:], after["block.1.mlp.fc2_lif"][5:])


def test_first_convolution_runs_once_for_all_steps():
    model, shapes = build(SMALL).eval(), []
    model.patch_embed.proj_conv.register_forward_hook(
        lambda m, inputs, out: shapes.append(tuple(inputs[0].shape)))
    model(torch.randn(2, 2, 9, 12))
    assert shapes == [(2, 2, 9, 12)]


def test_heads_change_nothing_without_events():
    images = torch.randn(2, 2, 9, 12, dtype=torch.float64)
    one, many = busy(SMALL), busy(msgspec.structs.replace(SMALL, heads=8))
    assert torch.equal(one(images), many(images))


def widened(x: np.ndarray) -> np.ndarray:
    """The largest of each 3x3 neighbourhood on the last two axes, cell by cell."""
    out = np.empty_like(x)
    for i in range(x.shape[-2]):
        for j in range(x.shape[-1]):
            out[..., i, j] = x[..., max(i - 1, 0):i + 2, max(j - 1, 0):j + 2].max((-2, -1))
    return out


def test_event_attention_pools_over_tokens_and_channels_of_a_head():
    """The DVS mode against loops over heads: k, v on the grid; k v and the result on N x d."""
    config = msgspec.structs.replace(SMALL, events=True)
    attention = busy(config).block[0].attn
    random = np.random.default_rng(1)
    q, k, v = (random.integers(0, 8, (3, 2, 16, 3, 4)) == 0 for _ in range(3))
    got = attention._select_events(*(torch.from_numpy(x).double() for x in (q, k, v))).numpy()
    k, v = widened(k), widened(v)
    expected = np.zeros(q.shape)
    for t_b_head in np.ndindex(2, 2):
        b, head = t_b_head
        rows = slice(8 * head, 8 * head + 8)
        tokens = [x[:, b, rows].reshape(3, 8, 12).transpose(0, 2, 1) for x in (q, k, v)]
        sums = widened(tokens[1] & tokens[2]).sum(1, dtype=float)  # [T, d]
        mask = Lif(0.5)(torch.from_numpy(sums)).numpy().astype(bool)
        passed = widened(tokens[0] & mask[:, None])  # [T, N, d]
        expected[:, b, rows] = passed.transpose(0, 2, 1).reshape(3, 8, 3, 4)
    assert 0 < got.mean() < 1
    assert np.array_equal(got, expected)


def test_at_mlp_ratio_one_the_stream_enters_the_hidden_layer():
    config = sdt_v1((8, 8), 2, 5, dim=16, depth=1, heads=2, mlp_ratio=1, pool="0001")
    assert config.mlp_shortcut
    mlp = busy(config).block[0].mlp
    x = torch.randn(4, 1, 16, 4, 4, dtype=torch.float64)

    def branch(x, lif, conv, bn):
        return bn(conv(lif(x).flatten(0, 1))).unflatten(0, (4, 1))

    middle = x + branch(x, mlp.fc1_lif, mlp.fc1_conv, mlp.fc1_bn)
    expected = middle + branch(middle, mlp.fc2_lif, mlp.fc2_conv, mlp.fc2_bn)
    assert torch.equal(mlp(x), expected)


def test_every_parameter_learns():
    model = build(SMALL)
    torch.nn.init.normal_(model.head.weight)
    model(5 * torch.randn(4, 2, 9, 12)).square().sum().backward()
    assert [name for name, p in model.named_parameters()
            if p.grad is None or not p.grad.isfinite().all()] == []
    assert model.patch_embed.proj_conv.weight.grad.abs().sum() > 0


def test_pruned_blocks_keep_their_own_widths():
    config = msgspec.structs.replace(SMALL, attention_dims=(5, 16), hidden_dims=(64, 7))
    model = build(config).eval()
    assert model(torch.randn(2, 2, 9, 12)).shape == (2, 5)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    given = {"img": (9, 12), "T": 3, "pooling_stat": "0101", "num_heads": 2, "dvs_mode": False}
    assert recognise(shapes, given) == config


@pytest.mark.parametrize("lost", ["head.weight", "block.1.mlp.fc1_conv.weight",
                                  "patch_embed.proj_conv1.weight"])
def test_a_missing_tensor_is_named(lost):
    shapes = {name: tuple(t.shape) for name, t in build(SMALL).state_dict().items()}
    del shapes[lost]
    with pytest.raises(UsageError, match=lost):
        recognise(shapes, {})


def test_other_families_and_learned_leaks():
    shapes = {name: tuple(t.shape) for name, t in build(SMALL).state_dict().items()}
    with pytest.raises(UsageError, match="PLIF"):
        recognise(shapes | {"patch_embed.proj_lif.w": ()}, {})
    assert recognise({"head.weight": (10, 16)}, {}) is None
    assert recognise(shapes | {"block.0.attn.q_conv.weight": (16, 16, 1)}, {}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pool": "012"}, "pool '012'"),
        ({"time_steps": 0}, "time_steps has the value 0"),
        ({"image_size": (0, 8)}, "image_size has the value 0"),
        ({"hidden_dims": (64,)}, "hidden_dims has 1 entries for 2 blocks"),
        ({"attention_dims": (0, 16)}, "attention_dims has the value 0"),
        ({"attention_dims": (15, 16), "events": True}, "do not split into 2 heads"),
        ({"mlp_shortcut": True}, "mlp_shortcut adds a stream of 16 channels"),
    ],
)
def test_impossible_shapes_are_refused(changes, words):
    with pytest.raises(UsageError, match=words) as caught:
        msgspec.structs.replace(SMALL, **changes)
    assert "\n" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize(("dim", "heads"), [(12, 2), (16, 3), (16, 0)])
def test_impossible_widths_are_refused(dim, heads):
    with pytest.raises(UsageError, match=f"dim {dim}"):
        sdt_v1((8, 8), 2, 5, dim=dim, depth=1, heads=heads)


def test_config_survives_json():
    text = msgspec.json.encode(SMALL)
    assert b'"family":"sdt_v1"' in text
    assert msgspec.json.decode(text, type=SdtV1Config) == SMALL
