import msgspec
import pytest

from edgesvit.errors import UsageError
from edgesvit.models.config import SpikformerConfig, spikformer


def small(**changes) -> SpikformerConfig:
    return spikformer((32, 32), 3, 10, **{"dim": 48, "depth": 2, "heads": 3, **changes})


def test_builder_fills_every_block():
    config = small(time_steps=2)
    assert config.stem == (6, 12, 24, 48)
    assert config.qk_dims == config.v_dims == (16, 16)
    assert config.hidden_dims == (192, 192)


@pytest.mark.parametrize(
    ("size", "pool", "sizes"),
    [
        ((32, 32), "0011", ((32, 32), (32, 32), (32, 32), (16, 16), (8, 8))),
        ((224, 224), "1111", ((224, 224), (112, 112), (56, 56), (28, 28), (14, 14))),
        ((7, 5), "1000", ((7, 5), (4, 3), (4, 3), (4, 3), (4, 3))),
    ],
)
def test_stage_sizes_follow_the_pools(size, pool, sizes):
    config = spikformer(size, 1, 2, dim=8, depth=1, heads=1, pool=pool)
    assert config.stage_sizes == sizes
    assert config.tokens == sizes[-1][0] * sizes[-1][1]


def test_json_round_trip():
    config = small()
    assert msgspec.json.decode(msgspec.json.encode(config), type=SpikformerConfig) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "dim 48 cannot be split into 5 heads"),
        ({"heads": 0}, "dim 48 cannot be split into 0 heads"),
        ({"dim": 12}, "dim 12 gives no whole stem widths"),
        ({"time_steps": 9}, "time_steps is 9"),
        ({"time_steps": 0}, "time_steps is 0"),
        ({"pool": "001"}, "pool '001'"),
        ({"pool": "0012"}, "pool '0012'"),
        ({"stem": (8, 8, 8, 8)}, "does not end in the embedding width 48"),
        ({"stem": (0, 8, 8, 48)}, "stem has the value 0"),
        ({"depth": 0}, "depth has the value 0"),
    ],
)
def test_bad_shapes_are_refused_in_one_line(changes, words):
    with pytest.raises(UsageError, match=words) as caught:
        small(**changes)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_pruned_shapes_are_checked():
    with pytest.raises(UsageError, match="qk_dims has 1 entries for 2 blocks"):
        msgspec.structs.replace(small(), qk_dims=(8,))
    with pytest.raises(UsageError, match="v_dims has the value 0"):
        msgspec.structs.replace(small(), v_dims=(8, 0))
