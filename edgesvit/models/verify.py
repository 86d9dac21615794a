"""A checkpoint against what the official code computed from it: logits and spikes.

The folder holds state_dict.safetensors, meta.json (its "config": the official names of what leaves
no trace in the tensors), io.npz (x; logits of one forward with all of x; logits_single of one
forward an image) and, if wanted, spikes.npz (uint8, time first, by official module path).
"""

import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.errors import UsageError
from edgesvit.models.checkpoints import Checkpoint, load_checkpoint

TOLERANCE = 1e-4
BATCH_LEAK = ("the released accuracies need this neuron, which leaks from image to image of a "
              "batch; a board runs one image at a time (batch 1), where nothing leaks")


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """How far a model is from the official code, in logits and in spikes."""

    folder: str
    recognised: str  # the model in one line
    family: str
    variant: str | None
    parameters: int
    images: int
    batch_difference: float  # largest |logit difference|, all images in one forward
    single_difference: float  # the same, one image a forward
    spikes_compared: int
    spike_mismatches: int
    neurons_compared: tuple[str, ...]
    dead_keys: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Logits within the tolerance and every spike the same; a NaN is not equal."""
        return (self.batch_difference <= TOLERANCE and self.single_difference <= TOLERANCE
                and self.spike_mismatches == 0)


def verify(folder: str | Path) -> Verification:
    """Load the folder's checkpoint, run its images, compare; UsageError names a missing file."""
    folder = Path(folder)
    config = _config(folder / "meta.json")
    io = _arrays(folder / "io.npz", ("x", "logits", "logits_single"))
    recorded = _arrays(folder / "spikes.npz") if (folder / "spikes.npz").exists() else {}
    loaded = load_checkpoint(folder / "state_dict.safetensors", config)
    images = torch.from_numpy(_float32(io["x"], folder / "io.npz"))
    try:
        logits, spikes = run(loaded.model, images, tuple(recorded))
        single = torch.cat([run(loaded.model, image[None])[0] for image in images])
    except (RuntimeError, ValueError, IndexError) as error:
        raise UsageError(f"{folder / 'io.npz'}: x of shape {list(images.shape)} does not pass "
                         f"through the model: {str(error).splitlines()[0]}",
                         "check img and T in meta.json") from None
    return Verification(
        folder=str(folder), recognised=loaded.describe(),
        family=loaded.family, variant=loaded.variant,
        parameters=loaded.parameters, images=len(images),
        batch_difference=_difference(logits, io["logits"], "logits", folder),
        single_difference=_difference(single, io["logits_single"], "logits_single", folder),
        spikes_compared=sum(array.size for array in recorded.values()),
        spike_mismatches=sum(
            _mismatches(loaded, name, spikes[name], array) for name, array in recorded.items()),
        neurons_compared=tuple(recorded), dead_keys=loaded.dead_keys, notes=_notes(loaded))


def run(model: nn.Module, images: Tensor, neurons: tuple[str, ...] = ()
        ) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and what the named neurons emit as whole numbers (0/1, for SDT-V3 levels 0..D)."""
    modules, seen = dict(model.named_modules()), {}
    for name in neurons:
        if name not in modules:
            raise UsageError(f"spikes.npz names {name}, the model has no such module",
                             "spikes must carry the official module paths")

    def keep(name: str) -> Any:
        return lambda module, inputs, out: seen.__setitem__(
            name, out * getattr(module, "divisor", 1))

    hooks = [modules[name].register_forward_hook(keep(name)) for name in neurons]
    try:
        with torch.no_grad():
            return model(images), seen
    finally:
        for hook in hooks:
            hook.remove()


def _float32(array: np.ndarray, path: Path) -> np.ndarray:
    try:
        return array.astype(np.float32)
    except ValueError:
        raise UsageError(f"{path}: x holds no numbers", "store normalised images") from None


def _difference(ours: Tensor, theirs: np.ndarray, name: str, folder: Path) -> float:
    if tuple(ours.shape) != theirs.shape:
        raise UsageError(f"{folder / 'io.npz'}: {name} is {list(theirs.shape)}, "
                         f"the model gives {list(ours.shape)}", "store one row an image")
    return float(np.abs(ours.numpy() - theirs).max())


def _mismatches(loaded: Checkpoint, name: str, ours: Tensor, theirs: np.ndarray) -> int:
    if ours.numel() != theirs.size:
        return theirs.size
    if loaded.family == "spikformer" and loaded.model.config.form != "linear" and (
            name.startswith("block.")):
        ours = ours.transpose(2, 3)  # our tokens [T, B, N, C], the official code's [T, B, C, N]
    return int((ours.round().numpy().reshape(theirs.shape) != theirs).sum())


def _notes(loaded: Checkpoint) -> tuple[str, ...]:
    axis = getattr(loaded.model.config, "proj_lif_axis", None)
    return (f"proj_lif_axis {axis}: {BATCH_LEAK}",) if axis == "batch_time" else ()


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"no file {path}", 'it holds the official settings under "config"')
    try:
        meta = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is no JSON: {error}", "copy it again") from None
    config = meta.get("config") if isinstance(meta, dict) else None
    if not isinstance(config, dict):
        raise UsageError(f'{path} has no "config"', 'for example {"config": {"num_heads": 8}}')
    return config


def _arrays(path: Path, needed: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UsageError(f"no file {path}", "store x, logits and logits_single with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is no whole npz file: {error}", "copy it again") from None
    for name in needed:
        if name not in arrays:
            raise UsageError(f"{path} lacks the array {name}", f"it needs {', '.join(needed)}")
    return arrays
