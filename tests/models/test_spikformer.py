import json

import numpy as np
import pytest
import torch

from edgesvit.models.checkpoints import load_checkpoint
from edgesvit.models.config import spikformer
from edgesvit.models.lif import Lif
from edgesvit.models.spikformer import build


@pytest.fixture(scope="module")
def official(shared):
    """The public fixture: model, inputs and what the authors' code computed from them."""
    folder = shared / "fixtures" / "spikformer_cifar" / "public"
    meta = json.loads((folder / "meta.json").read_text())
    loaded = load_checkpoint(
        folder / "state_dict.safetensors", heads=meta["config"]["num_heads"],
        time_steps=meta["config"]["T"])
    return loaded, np.load(folder / "io.npz"), np.load(folder / "spikes.npz"), meta


def spikes_of(model, images) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and the output of every neuron by module name."""
    seen = {}
    hooks = [m.register_forward_hook(lambda m, i, out, name=n: seen.__setitem__(name, out))
             for n, m in model.named_modules() if isinstance(m, Lif)]
    with torch.no_grad():
        logits = model(images)
    for hook in hooks:
        hook.remove()
    return logits, seen


def test_logits_equal_the_official_code(official):
    loaded, io, _, _ = official
    images = torch.from_numpy(io["x"])
    with torch.no_grad():
        logits = loaded.model(images).numpy()
        single = np.concatenate([loaded.model(image[None]).numpy() for image in images])
    assert np.abs(logits - io["logits"]).max() <= 1e-4
    assert np.abs(single - io["logits_single"]).max() <= 1e-4


def test_every_spike_equals_the_official_code(official):
    loaded, io, spikes, meta = official
    _, seen = spikes_of(loaded.model, torch.from_numpy(io["x"]))
    for name in spikes.files:
        assert np.array_equal(seen[name].numpy(), spikes[name]), name
    counts = {name: out.sum(tuple(range(1, out.ndim))).tolist() for name, out in seen.items()}
    assert counts == meta["spike_count_per_first_axis"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = spikformer((9, 12), 2, 5, dim=16, depth=2, heads=2, time_steps=3, pool="0101")
    return build(config)


def test_any_image_shape_gives_logits(model):
    assert model.eval()(torch.randn(3, 2, 9, 12)).shape == (3, 5)
    assert model.config.tokens == 3 * 3


def test_both_product_orders_of_attention_agree(model):
    """The cheaper order depends on N and d; both must give the spikes of the other."""
    attention = model.eval().block[0].attn
    wide = torch.randint(0, 3, (3, 2, 20, 16)).float()  # N = 20 > d = 8: k^T v first
    q, k, v = (attention._split(lif(bn(linear(wide).flatten(0, 2)).unflatten(0, (3, 2, 20))))
               for linear, bn, lif in ((attention.q_linear, attention.q_bn, attention.q_lif),
                                       (attention.k_linear, attention.k_bn, attention.k_lif),
                                       (attention.v_linear, attention.v_bn, attention.v_lif)))
    assert torch.equal((q @ k.transpose(-2, -1)) @ v, q @ (k.transpose(-2, -1) @ v))


def test_first_convolution_runs_once_for_all_steps(model):
    shapes = []
    model.patch_embed.proj_conv.register_forward_hook(
        lambda m, inputs, out: shapes.append(tuple(inputs[0].shape)))
    model.eval()(torch.randn(2, 2, 9, 12))
    assert shapes == [(2, 2, 9, 12)]


def test_every_parameter_learns(model):
    model.train()
    model(5 * torch.randn(4, 2, 9, 12)).square().sum().backward()
    without = [name for name, p in model.named_parameters()
               if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert model.patch_embed.proj_conv.weight.grad.abs().sum() > 0


def test_query_and_value_widths_may_differ():
    import msgspec

    config = spikformer((8, 8), 1, 4, dim=16, depth=1, heads=2, pool="0001")
    config = msgspec.structs.replace(config, qk_dims=(3,), v_dims=(5,), hidden_dims=(7,))
    assert build(config).eval()(torch.randn(2, 1, 8, 8)).shape == (2, 4)
