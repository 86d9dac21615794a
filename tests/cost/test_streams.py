"""Residual streams: which values share their channels."""

import numpy as np
import pytest

from edgesvit.cost.streams import ends, streams
from edgesvit.program.ops import Kind
from tests.program.programs import Builder

STREAM = (Kind.MEMBRANE, 1000)


def builder() -> Builder:
    return Builder(np.random.default_rng(0), 2, (4, 4, 3))


def test_added_spikes_share_a_stream_and_what_reads_it_is_known():
    build = builder()
    first = build.encode(8)
    pooled = build.pool(first)
    x = build.add(pooled, build.conv(pooled, 8, kernel=3, pad=1))
    hidden = build.conv(x, 20)
    y = build.add(x, build.conv(hidden, 8))
    program = build.finish(y, 5)
    assert streams(program) == {name: "s0" for name in ("v1", "v2", "v3", "v4", "v6", "v7")}
    named = {op.output: end for op, end in zip(program.ops, ends(program), strict=True)}
    assert (named["v1"].reads, named["v1"].writes) == ("", "s0")  # through the pooling
    assert (named[hidden.name].reads, named[hidden.name].writes) == ("s0", "")
    assert (named[x.name].reads, named[x.name].writes) == ("s0", "s0")
    assert (named["v8"].reads, named["v8"].writes) == ("s0", "")  # the classifier


def test_each_stage_of_membranes_is_a_stream_of_its_own():
    build = builder()
    x = build.encode(8, gives=STREAM)
    spikes = build.fire(x)
    x = build.conv(build.depthwise(build.conv(spikes, 9)), 8, gives=STREAM, stream=x)
    down = build.conv(build.fire(x), 6, 3, 2, 1, gives=STREAM)
    y = build.conv(build.attend_hadamard(build.fire(down), 7), 6, gives=STREAM, stream=down)
    program = build.finish(build.fire(y, over_tokens=True), 5)
    named = {op.output: end for op, end in zip(program.ops, ends(program), strict=True)}
    assert (named[down.name].reads, named[down.name].writes) == ("s0", "s1")
    assert streams(program)[spikes.name] == "s0"  # a neuron keeps the channels
    assert named[y.name].writes == "s1" and named[program.ops[-1].output].reads == "s1"
    inside = {op.output for op in program.ops if program.value(op.output).shape[2] in (7, 9)}
    assert len(inside) == 6 and not inside & set(streams(program))


def test_no_addition_is_no_stream():
    build = builder()
    program = build.finish(build.pool(build.encode(8)), 5)
    assert streams(program) == {} and all(not (e.reads or e.writes) for e in ends(program))


def test_a_depth_wise_branch_keeps_the_channels():
    build = builder()
    x = build.encode(8, gives=STREAM)
    inner = build.conv(build.fire(x), 8)
    y = build.depthwise(inner, gives=STREAM, stream=x)
    program = build.finish(build.fire(y), 5)
    assert set(streams(program)) == {"v1", "v2", inner.name, y.name, "v5"}


def test_token_attention_passes_the_channels_of_its_keys():
    build = builder()
    x = build.encode(8)
    program = build.finish(build.add(x, build.attend_tokens(x, 2, 4)), 5)
    attention = program.ops[3]
    assert attention.key in streams(program) and attention.query not in streams(program)


@pytest.mark.parametrize(("name", "widths"), [
    ("spikformer-2-384-cifar10", [384]), ("qkformer-4-384-cifar10", [96, 192, 384]),
    ("sdt-2-256-cifar10", [256]), ("metaspikformer_8_256", [32, 64, 128, 256, 360]),
    ("Efficient_Spiking_Transformer_t", [12, 24, 48, 96, 128])])
def test_published_models_have_a_stream_a_stage(name, widths):
    torch = pytest.importorskip("torch")
    from edgesvit.models import families
    from edgesvit.program.build import build

    [config] = [v.config for f in families.FAMILIES.values() for v in f.VARIANTS if v.name == name]
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in families.build(config).state_dict().items()}
    weights = {key: np.broadcast_to(np.float32(1), shape) for key, shape in shapes.items()}
    program = build(config, weights, (0.0,) * 3, (1.0,) * 3)
    label = streams(program)
    found = {label[name]: program.value(name).shape[2] for name in label}
    assert found == {f"s{i}": width for i, width in enumerate(widths)}
    joined = [end for end in ends(program) if end.reads and end.writes not in ("", end.reads)]
    # Each stage but the first begins with a layer, or QKFormer's two, that read the stage before.
    assert len(joined) >= len(widths) - 1
    assert all(len({program.value(n).shape[2] for n in label if label[n] == s}) == 1
               for s in found)
