import msgspec
import numpy as np
import pytest
import torch

from edgesvit.errors import UsageError
from edgesvit.models import spikformer as family
from edgesvit.models.config import spikformer
from edgesvit.models.spikformer import build, recognise
from tests.models.official import load, logit_errors, spikes_of


@pytest.fixture(scope="module", params=["spikformer_cifar", "spikformer"])
def official(request, shared):
    """The CIFAR (linear) and the ImageNet (conv) form."""
    return load(shared / "fixtures" / request.param / "public", family)


def test_logits_equal_the_official_code(official):
    assert max(logit_errors(official)) <= 1e-4


def test_every_spike_equals_the_official_code(official):
    _, seen = spikes_of(official.model, official.images)
    for name in official.spikes.files:
        spikes, expected = seen[name].numpy(), official.spikes[name]
        if name.startswith("block") and official.model.config.form == "conv":
            spikes = spikes.swapaxes(2, 3).reshape(expected.shape)  # theirs are channels first
        assert np.array_equal(spikes, expected), name
    counts = {name: out.sum(tuple(range(1, out.ndim))).tolist() for name, out in seen.items()}
    assert counts == official.counts


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
    config = spikformer((8, 8), 1, 4, dim=16, depth=1, heads=2, pool="0001")
    config = msgspec.structs.replace(config, qk_dims=(3,), v_dims=(5,), hidden_dims=(7,))
    assert build(config).eval()(torch.randn(2, 1, 8, 8)).shape == (2, 4)


def shapes_of(model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def small(form: str):
    torch.manual_seed(2)
    model = build(spikformer((9, 12), 2, 5, dim=16, depth=2, heads=2, time_steps=3, pool="0101",
                             attention_scale=0.25, form=form)).double()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 1.0, 2.0)
            torch.nn.init.uniform_(module.bias, -0.5, 1.0)
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, 2, 9, 12, dtype=torch.float64))
    return model.eval()


def test_the_three_forms_compute_the_same():
    """The same weights under the names and in the shapes of each form."""
    source, images = small("dvs"), torch.randn(4, 2, 9, 12, dtype=torch.float64)
    logits, seen = spikes_of(source, images)
    assert all(0 < spikes.mean() < 1 for spikes in seen.values())
    weights = source.state_dict()
    for form in ("linear", "conv"):
        other = small(form)
        state = {name: weights[name.replace("_linear", "_conv")].reshape(tensor.shape)
                 if name.replace("_linear", "_conv") in weights else torch.zeros_like(tensor)
                 for name, tensor in other.state_dict().items()}  # zeros: bias of q, k, v
        other.load_state_dict(state)
        assert torch.allclose(other(images), logits, rtol=0, atol=1e-12)


def test_the_forms_differ_in_shapes_and_bias():
    shapes = {form: shapes_of(small(form)) for form in ("linear", "conv", "dvs")}
    assert shapes["linear"]["block.0.attn.q_linear.bias"] == (16,)
    assert "block.0.attn.q_conv.bias" not in shapes["conv"]
    assert shapes["conv"]["block.0.attn.proj_conv.weight"] == (16, 16, 1)
    assert shapes["conv"]["block.0.mlp.fc1_conv.weight"] == (64, 16, 1, 1)
    assert shapes["dvs"]["block.0.mlp.fc1_conv.weight"] == (64, 16, 1)


def test_frames_of_a_still_image_equal_the_image():
    model, images = small("dvs"), torch.randn(3, 2, 9, 12, dtype=torch.float64)
    frames = images[:, None].expand(3, 3, 2, 9, 12)  # [B, T, C, H, W]
    assert torch.allclose(model(images), model(frames), rtol=0, atol=1e-12)


def test_event_frames_bring_their_own_t_and_keep_their_order():
    model, frames = small("dvs"), torch.randn(2, 7, 2, 9, 12, dtype=torch.float64)
    _, seen = spikes_of(model, frames)
    assert {len(spikes) for spikes in seen.values()} == {7}
    changed = frames.clone()
    changed[1, 5:] += 1  # only the second sample, only the last two steps
    _, after = spikes_of(model, changed)
    for name, spikes in seen.items():
        assert torch.equal(spikes[:5], after[name][:5]), name
        assert torch.equal(spikes[:, 0], after[name][:, 0]), name
    assert not torch.equal(seen["block.1.mlp.fc2_lif"][5:], after["block.1.mlp.fc2_lif"][5:])


@pytest.mark.parametrize("form", ["linear", "conv", "dvs"])
def test_a_pruned_shape_is_recognised(form):
    config = spikformer((9, 12), 2, 5, dim=16, depth=2, heads=2, time_steps=3, pool="0101",
                        form=form)
    config = msgspec.structs.replace(config, stem=(3, 4, 6, 16), qk_dims=(8, 4), v_dims=(6, 8),
                                     hidden_dims=(64, 20))
    given = {"num_heads": 2, "img": (9, 12), "T": 3, "pooling_stat": "0101"}
    assert recognise(shapes_of(build(config)), given) == config


def test_what_the_tensors_do_not_tell_is_the_form_s_own():
    shapes = shapes_of(small("dvs"))
    config = recognise(shapes, {"num_heads": 16})
    assert (config.image_size, config.time_steps, config.pool) == ((128, 128), 16, "1111")
    assert (config.attention_scale, config.heads) == (0.25, 16)
    with pytest.raises(UsageError, match="number of heads"):
        recognise(shapes, {})
    with pytest.raises(UsageError, match="block.0.attn.q_conv has 16 rows.*3 heads"):
        recognise(shapes, {"num_heads": 3})


def test_another_family_is_not_recognised():
    shapes = shapes_of(small("conv"))
    assert recognise(shapes | {"block.0.attn.q_conv.weight": (16, 16, 1, 1)}, {}) is None
    assert recognise({"head.weight": (10, 16)}, {}) is None
    del shapes["head.weight"]
    with pytest.raises(UsageError, match="lacks the tensor head.weight"):
        recognise(shapes, {"num_heads": 2})
