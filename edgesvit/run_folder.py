"""A run folder: one model on disk with what it is, its weights and every result taken from it.

    model.json           what the model is (ModelCard)
    weights.safetensors  weights under the family's own names, floats or packed
    program.esv          the integer program made from them
    results.jsonl        one result per line, only ever added to
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgesvit import __version__
from edgesvit.disk import append_line, read_lines, write_atomic
from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig
from edgesvit.packed import unpack

SCHEMA_VERSION = 1


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a model that is not a weight.

    `mean` and `std` normalise pixels scaled to 0..1, per channel. In a program weights are
    `weight_bits` wide, those of the layers (module names) in `layer_bits` as wide as it says.
    `parent` is the SHA-256 of the weights file this model was fine-tuned or pruned from, empty for
    a model trained from scratch.
    """

    schema_version: int = SCHEMA_VERSION
    tool_version: str = __version__
    config: AnyConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    data: str
    command: str = ""
    metrics: dict[str, float] = {}
    weight_bits: int = 8
    layer_bits: dict[str, int] = {}
    parent: str = ""
    notes: str = ""


class RunFolder:
    """The files of one run; every write is atomic or append-only, nothing is unpickled."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.card_path = self.path / "model.json"
        self.weights_path = self.path / "weights.safetensors"
        self.program_path = self.path / "program.esv"
        self.results_path = self.path / "results.jsonl"

    def write_model(self, card: ModelCard, weights: Mapping[str, Any]) -> None:
        """Replace model and weights; `weights` maps names to NumPy arrays or torch tensors."""
        from safetensors.numpy import save

        arrays = {name: _array(value) for name, value in weights.items()}
        document = msgspec.json.format(msgspec.json.encode(card)) + b"\n"
        write_atomic({self.weights_path: save(arrays), self.card_path: document})

    def card(self) -> ModelCard:
        """What the model is; UsageError when the folder holds no readable model."""
        content = self._read(self.card_path)
        try:
            return msgspec.json.decode(content, type=ModelCard)
        except (msgspec.DecodeError, UsageError) as error:
            raise UsageError(f"{self.card_path} is damaged: {error}", _RETRAIN) from None

    def weights(self) -> dict[str, Any]:
        """The weights as NumPy float arrays by name."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        content = self._read(self.weights_path)
        try:
            return unpack(load(content))
        except (SafetensorError, ValueError, KeyError) as error:
            raise UsageError(f"{self.weights_path} is damaged: {error}", _RETRAIN) from None

    def weights_sha256(self) -> str:
        """The identity of the weights, as a child names its parent."""
        return hashlib.sha256(self._read(self.weights_path)).hexdigest()

    def append_result(self, result: Mapping[str, Any]) -> None:
        """Add one result as one line, on the disk before this returns."""
        append_line(self.results_path, result)

    def results(self) -> list[dict[str, Any]]:
        """All results, oldest first; a line that a crash cut short is left out."""
        return read_lines(self.results_path)

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise UsageError(f"{self.path} holds no model: no file {path.name}", _RETRAIN) from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", _RETRAIN) from None


_RETRAIN = "give a folder made by: edgesvit train --data digits --run FOLDER"


def _array(value: Any) -> Any:
    import numpy as np

    array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(array, order="C")  # channels-last weights are stored in logical order
