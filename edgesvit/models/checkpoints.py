"""Reading checkpoints from outside: tensors by name, then the model's shape from those tensors."""

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.errors import UsageError
from edgesvit.models import families

# Where training scripts put the state dict, the raw weights before their moving average.
NESTED = ("model", "state_dict", "model_ema", "state_dict_ema")
# What those scripts store beside it: plain data, nothing of it can run.
PLAIN_DATA = [argparse.Namespace, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType,
              np.dtypes.Int64DType, np._core.multiarray.scalar]
NO_WEIGHT = ("running_mean", "running_var", "num_batches_tracked")
# "1x8" in a file's name: one time step of neurons with D = 8 levels.
EIGHT_LEVELS = re.compile(r"(?<!\d)1x8(?!\d)|t1_?d8(?!\d)|(?<![a-z0-9])d_?=?8(?!\d)", re.IGNORECASE)


class Checkpoint(msgspec.Struct, frozen=True):
    """A loaded model and what was recognised.

    `variant` is the published model of this shape, if there is one; `parameters` counts what the
    file holds, and `dead_keys` are those of its tensors that no computation uses.
    """

    model: nn.Module
    family: str
    variant: str | None
    parameters: int
    dead_keys: tuple[str, ...]

    def describe(self) -> str:
        """One line: family, variant, size, T or D, unused tensors."""
        config = self.model.config
        steps = (f"D={config.levels}" if hasattr(config, "levels") else f"T={config.time_steps}")
        dead = f", {len(self.dead_keys)} tensors unused" if self.dead_keys else ""
        return (f"{self.family} {self.variant or '(no published shape)'}: "
                f"{self.parameters:,} parameters, {steps}, "
                f"images {config.image_size[0]}x{config.image_size[1]}{dead}")


def load_checkpoint(path: str | Path, given: Mapping[str, Any] | None = None) -> Checkpoint:
    """A model of any family in evaluation mode from an official .safetensors, .pth or .pth.tar.

    Family, widths, depth and classes follow from the tensors. What leaves no trace in them is in
    `given` under the official names (num_heads, img, T, D, pooling_stat ...); the published models'
    values hold for the rest. UsageError names the first tensor that does not fit.
    """
    given = given or {}
    tensors, metadata = _read(Path(path))
    try:
        config = families.recognise({n: tuple(t.shape) for n, t in tensors.items()}, given)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.hint) from None
    except (TypeError, ValueError, IndexError) as error:  # a T of "four", an img of three numbers
        raise UsageError(f"{path}: the settings {dict(given)} cannot be used: {error}",
                         "give whole numbers for num_heads, img, T and D") from None
    family = families.name_of(config)
    if hasattr(config, "levels"):
        _check_levels(Path(path), metadata, given)
    dead_ends = families.FAMILIES[family].DEAD_KEYS
    dead = tuple(sorted(name for name in tensors if name.endswith(dead_ends)))
    live = {name: value for name, value in tensors.items() if name not in dead}
    model = families.build(config).eval()
    check_tensors(model.state_dict(), live, str(path))
    model.load_state_dict(live, strict=False)  # only num_batches_tracked may be missing
    parameters = sum(t.numel() for n, t in tensors.items() if not n.endswith(NO_WEIGHT))
    return Checkpoint(model, family, _variant(family, config, parameters), parameters, dead)


def model_from_arrays(config: msgspec.Struct, arrays: Mapping) -> nn.Module:
    """A model in evaluation mode from a run folder's card and weights (NumPy arrays by name)."""
    model = families.build(config).eval()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    check_tensors(model.state_dict(), tensors, "the run folder's weights")
    model.load_state_dict(tensors, strict=False)
    return model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file by name; nothing in the file is executed."""
    return _read(path)[0]


def check_tensors(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    """UsageError with the first name that is missing, unknown or of another shape."""
    for name, tensor in wanted.items():
        if name not in given:
            if name.endswith("num_batches_tracked"):
                continue
            raise UsageError(f"{where} lacks the tensor {name}", _WHOLE)
        if given[name].shape != tensor.shape:
            raise UsageError(f"{where}: {name} is {list(given[name].shape)}, "
                             f"the model needs {list(tensor.shape)}", _WHOLE)
    for name in given:
        if name not in wanted:
            raise UsageError(f"{where}: the tensor {name} has no place in the model", _WHOLE)


_WHOLE = "the file must be the whole state dict of one model under its official names"


def _variant(family: str, config: msgspec.Struct, parameters: int) -> str | None:
    """The published model with this number of parameters; no two of a family's shapes share it."""
    rows = [row for row in families.FAMILIES[family].VARIANTS if row.parameters == parameters]
    same_size = [row for row in rows if row.config.image_size == config.image_size]
    return (same_size or rows)[0].name if rows else None


def _check_levels(path: Path, metadata: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """A checkpoint trained with D = 8 has the tensors of one with D = 4, and other logits."""
    if given.get("D") is not None:
        return
    if EIGHT_LEVELS.search(path.name):
        sign = "its name says 1x8, that is D = 8"
    elif str(metadata.get("D")) == "8":
        sign = "its metadata says D = 8"
    else:
        return
    raise UsageError(f"{path}: {sign}, but the tensors cannot confirm it and no D was given",
                     "give D = 8 (or D = 4, if that is what it was trained with)")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the settings that a training script stored beside them."""
    if not path.is_file():
        raise UsageError(f"no checkpoint file {path}", "check the path")
    if path.suffix == ".safetensors":
        content, metadata = _read_safetensors(path)
    else:
        content = _read_torch(path)
        metadata = _plain(content.get("config")) | _plain(content.get("args"))
        metadata |= {"D": content["D"]} if "D" in content else {}
    content = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)),
                   content)
    tensors = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value
               for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"{path} holds no tensors by name", "give a file with a state dict")
    return tensors, metadata


def _plain(settings: Any) -> dict[str, Any]:
    if isinstance(settings, argparse.Namespace):
        return vars(settings)
    if isinstance(settings, str):
        try:
            settings = json.loads(settings)
        except ValueError:
            return {}
    return dict(settings) if isinstance(settings, Mapping) else {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), _plain(metadata.get("config")) | metadata
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{path} is no whole safetensors file: {error}", "copy it again") from None


def _read_torch(path: Path) -> dict:
    try:
        with torch.serialization.safe_globals(PLAIN_DATA):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path} needs code of its own to be read, which is not run",
            "save its state_dict() with torch.save, or as .safetensors") from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(f"{path} is no whole torch file: {str(error).splitlines()[0]}",
                         "copy it again") from None
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds a {type(content).__name__}, not tensors by name",
                         "give a file with a state dict")
    return dict(content)
