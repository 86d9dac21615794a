import click
import msgspec
import numpy as np
import pytest

from edgesvit.data.dataset import Dataset
from edgesvit.errors import UsageError

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.architecture import BUILDERS, OPTIONS, Architecture, new_config  # noqa: E402
from edgesvit.cli.train import SHAPE, train  # noqa: E402
from edgesvit.models.config import AnyConfig  # noqa: E402
from edgesvit.models.families import build, name_of  # noqa: E402

# A value that no family has by itself.
UNUSUAL = {"time_steps": 2, "levels": 6, "stem": (4, 4, 8, 16), "pool": "1001",
           "attention_scale": 0.25}


def task(side: int, channels: int) -> Dataset:
    """A data set without images: new_config looks at its sizes only."""
    return Dataset(np.empty((0, side, side, channels), np.uint8), np.empty(0, np.int64),
                   tuple("0123456789"), (0.5,) * channels, (0.5,) * channels, "none")


def tiny(family: str, **options) -> Architecture:
    return Architecture(family=family, dim=16, depth=3, heads=2, **options)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("family", BUILDERS)
def test_every_family_has_a_model_for_small_images(family, side, channels):
    config = new_config(tiny(family), task(side, channels))
    assert name_of(config) == family and config.classes == 10
    height, width = config.stage_sizes[-1]
    assert family == "qkformer" or 4 <= height == width <= 8
    torch.manual_seed(0)
    model = build(config).train()
    logits = model(torch.randn(2, channels, side, side))
    assert logits.shape == (2, 10) and logits.isfinite().all()
    text = msgspec.json.encode(config)
    assert msgspec.json.decode(text, type=AnyConfig) == config


@pytest.mark.parametrize("option", UNUSUAL)
@pytest.mark.parametrize("family", BUILDERS)
def test_an_option_reaches_the_model_or_is_refused(family, option):
    shape = tiny(family, **{option: UNUSUAL[option]})
    if option in OPTIONS[family]:
        assert getattr(new_config(shape, task(16, 1)), option) == UNUSUAL[option]
        return
    with pytest.raises(UsageError) as caught:
        new_config(shape, task(16, 1))
    assert caught.value.message == f"the family {family} has no --{option.replace('_', '-')}"
    assert caught.value.hint


def test_the_command_line_offers_every_family_and_shape():
    (family,) = (p for p in train.params if p.name == "family")
    assert isinstance(family.type, click.Choice) and tuple(family.type.choices) == tuple(BUILDERS)
    assert SHAPE == Architecture.__struct_fields__
    defaults = {p.name: p.default for p in train.params if p.name in SHAPE}
    assert Architecture(**{**defaults, "stem": None, "pool": None}) == Architecture()
