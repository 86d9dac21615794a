"""Put a trained model among those that ship: packed weights, accuracies measured again.

    python scripts/ship_model.py RUN_FOLDER NAME
"""

import shutil
import sys
from dataclasses import replace

from msgspec.structs import replace as changed

from edgesvit.batches import evaluate
from edgesvit.cli.options import dataset
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.packed import pack
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder


def main() -> None:
    """Write the folder and say what it reaches."""
    source, target = RunFolder(sys.argv[1]), RunFolder(shipped_model(sys.argv[2]))
    card = source.card()
    before = card.metrics["test_accuracy"]
    target.path.mkdir(parents=True, exist_ok=True)
    target.write_model(card, pack(source.weights()))
    data = dataset(None, source)
    model = model_from_arrays(card.config, target.weights())
    after = evaluate(model, replace(data, mean=card.mean, std=card.std))
    integer = integer_accuracy(program_of(card, target.weights(), data), data) / 100
    metrics = card.metrics | {"test_accuracy": after, "integer_accuracy": integer}
    command = card.command.replace(sys.argv[1], f"runs/{sys.argv[2]}")
    note = f"weights packed to int8; {before:.2%} with the float weights as trained"
    target.write_model(changed(card, metrics=metrics, command=command, notes=note),
                       pack(source.weights()))
    if source.path.resolve() != target.path.resolve():
        shutil.copy(source.path / "metrics.jsonl", target.path / "metrics.jsonl")
    print(f"{sys.argv[2]}: {before:.2%} as trained, {after:.2%} packed, {integer:.2%} as integers, "
          f"{target.weights_path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
