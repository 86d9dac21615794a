"""A run folder: one model on disk with what it is, its weights and every result taken from it.

    model.json           what the model is (ModelCard)
    weights.safetensors  float weights under the family's own names
    program.esv          the integer program made from them
    results.jsonl        one result per line, only ever added to
"""

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgesvit import __version__
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.models.config import SpikformerConfig

SCHEMA_VERSION = 1


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a model that is not a weight.

    `mean` and `std` normalise pixels scaled to 0..1, per channel. `parent` is the SHA-256 of the
    weights file this model was fine-tuned or pruned from, empty for a model trained from scratch.
    """

    schema_version: int = SCHEMA_VERSION
    tool_version: str = __version__
    config: SpikformerConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    data: str
    command: str = ""
    metrics: dict[str, float] = {}
    weight_bits: int = 8
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
        """The weights as NumPy arrays by name."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        content = self._read(self.weights_path)
        try:
            return load(content)
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


def write_atomic(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their places, force them to disk, then rename: all old or all new."""
    parts = {path: path.with_name(path.name + ".part") for path in files}

    def write() -> None:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(parts[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)

    def undo() -> None:
        for part in parts.values():
            part.unlink(missing_ok=True)

    _on_disk(next(iter(files)), write, undo)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append `record` as one JSON line; a torn last line of an earlier crash is closed first."""
    line = msgspec.json.encode(record) + b"\n"
    before_bytes = path.stat().st_size if path.exists() else 0

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(b"\n" + line if _is_torn(path, before_bytes) else line)
            file.flush()
            os.fsync(file.fileno())

    def undo() -> None:
        if path.exists():
            os.truncate(path, before_bytes)

    _on_disk(path, write, undo)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file; a line that is no JSON was torn by a crash and is skipped."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            records.append(msgspec.json.decode(line, type=dict))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return records


def _is_torn(path: Path, size_bytes: int) -> bool:
    if not size_bytes:
        return False
    with open(path, "rb") as file:
        file.seek(size_bytes - 1)
        return file.read(1) != b"\n"


def _on_disk(path: Path, write: Callable[[], None], undo: Callable[[], None]) -> None:
    """Run `write`; when the disk refuses, `undo` what is half there and say so in one line."""
    try:
        write()
    except OSError as error:
        try:
            undo()
        except OSError:
            pass  # a disk that refuses this too leaves a torn line, which reading skips
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise EdgesvitError(
            f"{path} could not be written: {reason}",
            "free some space and run the same command again; earlier results are intact",
        ) from None


def _array(value: Any) -> Any:
    import numpy as np

    array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(array, order="C")  # channels-last weights are stored in logical order
