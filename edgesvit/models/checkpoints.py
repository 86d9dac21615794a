"""Reading checkpoints from outside: tensors by name, then the model's shape from those tensors."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from edgesvit.errors import UsageError
from edgesvit.models.config import SpikformerConfig, spikformer
from edgesvit.models.spikformer import Spikformer, build

# The authors' code creates these LayerNorms in every block and never calls them.
DEAD = (".norm1.weight", ".norm1.bias", ".norm2.weight", ".norm2.bias")


class Checkpoint(msgspec.Struct, frozen=True):
    """A loaded model and the names of the tensors that no computation uses."""

    model: Spikformer
    dead_keys: tuple[str, ...]


def load_checkpoint(
    path: str | Path,
    *,
    heads: int,
    image_size: tuple[int, int] = (32, 32),
    time_steps: int = 4,
    pool: str = "0011",
) -> Checkpoint:
    """A Spikformer (CIFAR form) in evaluation mode from .safetensors, .pth or .pt.

    Widths, depth and classes follow from the tensors; heads, image size, T and pooling leave no
    trace in them and are arguments. UsageError names the first tensor that does not fit.
    """
    tensors = read_tensors(Path(path))
    dead = tuple(sorted(name for name in tensors if name.endswith(DEAD)))
    live = {name: value for name, value in tensors.items() if name not in dead}
    config = infer_config(live, str(path), heads=heads, image_size=image_size,
                          time_steps=time_steps, pool=pool)
    model = build(config).eval()
    check_tensors(model.state_dict(), live, str(path))
    model.load_state_dict(live, strict=False)  # only num_batches_tracked may be missing
    return Checkpoint(model, dead)


def model_from_arrays(config: SpikformerConfig, arrays: Mapping) -> Spikformer:
    """A model in evaluation mode from a run folder's card and weights (NumPy arrays by name)."""
    model = build(config).eval()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    check_tensors(model.state_dict(), tensors, "the run folder's weights")
    model.load_state_dict(tensors, strict=False)
    return model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file by name; nothing in the file is executed."""
    if not path.is_file():
        raise UsageError(f"no checkpoint file {path}", "check the path")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {name.removeprefix("module."): value for name, value in content.items()
               if isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"{path} holds no tensors by name", "give a file with a state dict")
    return tensors


def infer_config(
    tensors: Mapping[str, Tensor], where: str, *, heads: int, image_size: tuple[int, int],
    time_steps: int, pool: str,
) -> SpikformerConfig:
    """The shape of a Spikformer from its tensors; pruned blocks keep their own widths."""
    convs = [_shape(tensors, f"patch_embed.proj_conv{i}.weight", 4, where)
             for i in ("", "1", "2", "3")]
    depth = len({name.split(".")[1] for name in tensors if name.startswith("block.")})
    rows = {layer: [_shape(tensors, f"block.{i}.{layer}.weight", 2, where)[0]
                    for i in range(depth)]
            for layer in ("attn.q_linear", "attn.v_linear", "mlp.fc1_linear")}
    for layer in ("attn.q_linear", "attn.v_linear"):
        for block, width in enumerate(rows[layer]):
            if heads < 1 or width % heads:
                raise UsageError(
                    f"{where}: block.{block}.{layer} has {width} rows, "
                    f"which {heads} heads cannot share",
                    "give the number of heads the model was trained with")
    base = spikformer(
        image_size, convs[0][1], _shape(tensors, "head.weight", 2, where)[0],
        dim=heads, depth=max(depth, 1), heads=heads, stem=(1, 1, 1, heads),
        time_steps=time_steps, pool=pool)
    return msgspec.structs.replace(
        base, stem=tuple(shape[0] for shape in convs), depth=depth,
        qk_dims=tuple(n // heads for n in rows["attn.q_linear"]),
        v_dims=tuple(n // heads for n in rows["attn.v_linear"]),
        hidden_dims=tuple(rows["mlp.fc1_linear"]))


def check_tensors(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    """UsageError with the first name that is missing, unknown or of another shape."""
    for name, tensor in wanted.items():
        if name not in given:
            if name.endswith("num_batches_tracked"):
                continue
            raise UsageError(f"{where} lacks the tensor {name}", _FORM)
        if given[name].shape != tensor.shape:
            raise UsageError(f"{where}: {name} is {list(given[name].shape)}, "
                             f"the model needs {list(tensor.shape)}", _FORM)
    for name in given:
        if name not in wanted:
            raise UsageError(f"{where}: the tensor {name} has no place in the model", _FORM)


_FORM = "the file must be a Spikformer in the CIFAR form (linear q, k, v)"


def _shape(tensors: Mapping[str, Tensor], name: str, rank: int, where: str) -> torch.Size:
    if name not in tensors:
        raise UsageError(f"{where} lacks the tensor {name}", _FORM)
    if tensors[name].ndim != rank:
        raise UsageError(f"{where}: {name} has {tensors[name].ndim} axes, not {rank}", _FORM)
    return tensors[name].shape


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{path} is no whole safetensors file: {error}", "copy it again") from None


def _read_torch(path: Path) -> dict:
    try:
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
