"""Narrow weights, rounded to nearest and rounded so that errors cancel: what each still gets right.

    python benchmarks/rounding.py [--data SPEC] [--bits 4,3,2] RUN ...

RUN is a run folder, a model in benchmarks/reference or one that ships. All layers but the first and
the classifier get each width; nothing is trained. Accuracies are those of integer programs on the
whole test split; "nearest" takes the scale of a channel from its largest weight, "compensated" is
`edgesvit.compress.rounding` on 128 images of the training split.
"""

import argparse
import tempfile
from pathlib import Path

from edgesvit.cli.options import dataset, model_folder
from edgesvit.compress import precision
from edgesvit.compress.judge import CALIBRATION_IMAGES, Judge
from edgesvit.compress.setting import Setting
from edgesvit.data import Dataset
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.report.table import table
from edgesvit.run_folder import RunFolder

REFERENCE = Path(__file__).parent / "reference"


def accuracies(source: RunFolder, test: Dataset, spec: str, widths: list[int]
               ) -> list[tuple[str, ...]]:
    """A row for each width: nearest, compensated, and as given."""
    with tempfile.TemporaryDirectory() as scratch:
        judges = [Judge(source, spec, Path(scratch) / "search", images=1, calibration=images)
                  for images in (0, CALIBRATION_IMAGES)]
    card, weights = source.card(), source.weights()
    layers = [layer for layer in list(precision.layers(card.config, weights))[1:]
              if not layer.startswith("head")]
    whole = integer_accuracy(program_of(card, weights, test), test)
    rows = []
    for bits in widths:
        setting = Setting(bits=dict.fromkeys(layers, bits))
        right = [integer_accuracy(program_of(*judge.model(setting), test), test)
                 for judge in judges]
        rows.append((source.path.name, str(bits), *(f"{x:.2f}" for x in (*right, whole))))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="RUN")
    parser.add_argument("--data", help="where the models' data lies, as in edgesvit train")
    parser.add_argument("--bits", default="4,3,2")
    given = parser.parse_args()
    rows = []
    for name in given.models:
        source = RunFolder(REFERENCE / name) if (REFERENCE / name).is_dir() else model_folder(name)
        spec = given.data or source.card().data
        rows += accuracies(source, dataset(given.data, source), spec,
                           [int(bits) for bits in given.bits.split(",")])
    print(table(("model", "bits", "nearest %", "compensated %", "8 bits %"), rows))


if __name__ == "__main__":
    main()
