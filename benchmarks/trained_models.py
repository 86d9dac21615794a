"""What trained models reach: float, with rounded weights, and as the integer program.

    python benchmarks/trained_models.py [RUN_FOLDER ...]

Without folders: the models that ship with edgesvit. Accuracies are those of the whole test split,
the integer one from the C runtime. Firing rate and U (the share of neurons that fire at all in T
steps) are means over the inputs of all layers that read spikes or levels, weighted by their size,
over the first images of the test split; a level counts as that many spikes of D. Minutes are those
of the training alone, on the machine that trained.
"""

import sys
from pathlib import Path

import torch

from edgesvit.cli.options import DEFAULT_MODEL, dataset
from edgesvit.data import Dataset
from edgesvit.disk import read_lines
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.models.families import name_of
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import decode, trace
from edgesvit.program.ops import Kind, Program, inputs
from edgesvit.report.table import table
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.train import fake_quantized_accuracy

HEADER = ("model", "family", "data", "T", "parameters", "float %", "fake-quant %", "integer %",
          "program bytes", "rate %", "U %", "minutes")
IMAGES = 20  # for rates


def firing(program: Program, data: Dataset) -> tuple[float, float]:
    """Mean firing rate and U of all spikes and levels that a layer reads, in percent."""
    read = {name for op in program.ops for name in inputs(op)} - {program.input.name}
    spikes = fired = steps = neurons = 0.0
    for image in data.images[:IMAGES]:
        env = trace(program, image)
        for value in program.values:
            if value.name not in read or value.kind not in (Kind.SPIKES, Kind.LEVELS):
                continue
            stored = env[value.name]
            levels = decode(stored, program.time_steps) if value.kind == Kind.SPIKES else stored
            spikes += float(levels.sum()) / value.max_level
            fired += float(levels.any(0).sum())
            steps += levels.size
            neurons += levels[0].size
    return 100 * spikes / steps, 100 * fired / neurons


def row(folder: RunFolder) -> tuple:
    """One line of the table."""
    card, weights = folder.card(), folder.weights()
    data = dataset(None, folder)
    program = program_of(card, weights, data)
    model = model_from_arrays(card.config, weights)
    as_trained = Dataset(data.images, data.labels, data.classes, card.mean, card.std, data.name)
    rounded = 100 * fake_quantized_accuracy(model, as_trained, card.weight_bits,
                                            card.layer_bits)
    rate, union = firing(program, data)
    parameters = sum(p.numel() for p in model.parameters())
    minutes = sum(line["seconds"] for line in read_lines(folder.path / "metrics.jsonl")) / 60
    return (folder.path.name, name_of(card.config), data.name, program.time_steps,
            parameters, f"{100 * card.metrics['test_accuracy']:.2f}", f"{rounded:.2f}",
            f"{integer_accuracy(program, data):.2f}", len(to_bytes(program)), f"{rate:.1f}",
            f"{union:.1f}", f"{minutes:.1f}")


def main() -> None:
    """Print the table of the run folders given."""
    torch.set_num_threads(1)
    trained = sorted(shipped_model(DEFAULT_MODEL).parent.iterdir())
    folders = [Path(name) for name in sys.argv[1:]] or trained
    print(table(HEADER, [row(RunFolder(path)) for path in folders]))


if __name__ == "__main__":
    main()
