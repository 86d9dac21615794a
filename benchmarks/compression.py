"""The published methods on a trained model, beside what their papers report of theirs.

    python benchmarks/compression.py RUN [--data SPEC] [--method NAME]... [--out FOLDER]
        [--train "--lr 0.001 --epochs 2 ..."]

RUN is a run folder, a model in benchmarks/reference or one that ships. Each row is an `edgesvit
compress` command with the limits of its paper, printed before it runs; with --train, `edgesvit
train --from` its result with these options where the paper trains too. Accuracies are those of
integer programs on the whole test split, losses in points; "wanted" is what the paper saves and
loses, for QSViT what we want of ourselves. Memory saved is of the program's file, for QSViT of
float32 weights. Energy is in percent of the model's, estimated: the bit-aware figure of `edgesvit
inspect`, and beside it that of reading the constants once from DRAM. Searches that were killed go
on when the command is repeated.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from edgesvit.cli.options import model_folder
from edgesvit.compress import precision
from edgesvit.data import load
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.report.table import table
from edgesvit.run_folder import RunFolder

REFERENCE = Path(__file__).parent / "reference"
RESULTS = Path(__file__).parent / "results"
IMAGES = 20  # that energy is the mean of
HEADER = ("method", "saved %", "wanted", "accuracy %", "lost", "wanted", "trained on: lost",
          "wanted", "energy %", "read %", "settings", "seconds")


class Row(NamedTuple):
    """One command, and what its paper reports: percent saved, points lost, lost after training."""

    method: str
    options: str
    saved: float | None
    lost: float
    tuned: float | None = None


ROWS = (
    Row("psvit", "", 22.4, 3.0, 0.5),
    Row("primesvt", "", 26.68, 3.0, 0.4),
    Row("qsvit", "--max-drop 0.5 --save-memory 85", 75.0, 0.5),
    Row("qsvit", "--max-drop 2.1 --save-memory 90", 85.0, 2.1),
    Row("tp-spikformer", "--keep-tokens 0.52", None, 2.5),
)


def edgesvit(*arguments: str) -> dict[str, Any]:
    """The answer of a command; one whose limits cannot be met (3) leaves its best in the folder."""
    print("edgesvit", shlex.join(arguments), file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "edgesvit", *arguments, "--json"],
                          stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)
    return json.loads(done.stdout) if done.stdout else {}


def float32_saved(folder: RunFolder, sizes: dict[str, int]) -> float:
    """Percent of the bits of `sizes` weights at 32 bits, by the papers' count."""
    bits = precision.weight_bits(sizes, folder.card().layer_bits, folder.card().weight_bits)
    return 100 * (1 - bits / (precision.FLOAT_BITS * sum(sizes.values())))


def energy_mj(folder: RunFolder, data: list[str]) -> tuple[float, float]:
    """Of one inference, estimated: of arithmetic, and of reading the constants."""
    answer = edgesvit("inspect", "--model", str(folder.path), *data, "--images", str(IMAGES))
    return answer["total"]["bit_aware_mj"], answer["total"]["traffic_mj"]


def integer_percent(folder: RunFolder, data: str) -> float:
    """Of the test split, by the model's program."""
    test = load(data, "test")
    return integer_accuracy(program_of(folder.card(), folder.weights(), test), test)


def measure(row: Row, source: RunFolder, out: Path, data: list[str], train: str,
            whole_mj: tuple[float, float]) -> dict[str, Any]:
    """Run the row's commands; what they reached, and what was wanted.

    `whole_mj` is the energy of the source.
    """
    place = RunFolder(out / "-".join([source.path.name, row.method, *row.options.split()[1:]]))
    edgesvit("compress", "--method", row.method, "--model", str(source.path), *data,
             *row.options.split(), "--run", str(place.path))
    report = place.results()[-1]
    card = source.card()
    sizes = precision.layers(card.config, source.weights())
    energy, read = (100 * left / whole for left, whole in
                    zip(energy_mj(place, data), whole_mj, strict=True))
    found = {
        "method": f"{row.method} {row.options}".strip(),
        "saved": float32_saved(place, sizes) if row.method == "qsvit" else report["saved_percent"],
        "wanted_saved": row.saved, "before": report["test_accuracy_before"],
        "after": report["test_accuracy"], "wanted_lost": row.lost, "wanted_tuned": row.tuned,
        "energy": energy, "read": read,
        "settings": report["settings_judged"], "seconds": report["seconds"]}
    if train and row.tuned is not None:
        tuned = RunFolder(place.path.with_name(place.path.name + "-trained"))
        spec = data[1] if data else card.data
        edgesvit("train", "--data", spec, "--from", str(place.path), "--run", str(tuned.path),
                 *shlex.split(train))
        found["tuned"] = integer_percent(tuned, spec)
    return found


def shown(found: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    def wanted(value: float | None, sign: str = "") -> str:
        return "" if value is None else f"{sign}{value:g}"

    lost = found["before"] - found["after"]
    tuned = f"{found['before'] - found['tuned']:.2f}" if "tuned" in found else ""
    return (found["method"], f"{found['saved']:.2f}", wanted(found["wanted_saved"], ">= "),
            f"{found['before']:.2f} -> {found['after']:.2f}", f"{lost:.2f}",
            wanted(found["wanted_lost"], "<= "), tuned, wanted(found["wanted_tuned"], "<= "),
            f"{found['energy']:.0f}", f"{found['read']:.0f}", f"{found['settings']}",
            f"{found['seconds']:.0f}")


def main() -> None:
    """Run the rows, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="RUN")
    parser.add_argument("--data", help="where the model's data lies, as in edgesvit train")
    parser.add_argument("--method", action="append", choices=[row.method for row in ROWS])
    parser.add_argument("--out", type=Path, default=Path("runs") / "compression")
    parser.add_argument("--train", default="", metavar="OPTIONS")
    given = parser.parse_args()
    ours = REFERENCE / given.model
    source = RunFolder(ours) if ours.is_dir() else model_folder(given.model)
    data = ["--data", given.data] if given.data else []
    whole_mj = energy_mj(source, data)
    rows = [measure(row, source, given.out, data, given.train, whole_mj) for row in ROWS
            if row.method in (given.method or [row.method])]
    print(table(HEADER, [shown(row) for row in rows]))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"compression-{source.path.name}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
