"""A method from a run folder to a run folder: search, apply, fine-tune, prove on the test split."""

import time

import msgspec

from edgesvit.compress.judge import Judge, Verdict
from edgesvit.compress.losses import Loss, losses
from edgesvit.compress.methods import METHODS, Request
from edgesvit.compress.prunable import Infeasible, Note
from edgesvit.compress.setting import Setting, apply
from edgesvit.data import load
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.program import file
from edgesvit.run_folder import ModelCard, RunFolder

FINE_TUNE_LEARNING_RATE = 2e-3
SEARCH_FILE = "search.jsonl"  # every answer of the judge: a killed search goes on from it


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a method did. Accuracies are percent, of integer programs; `test_*` are of images that
    no decision has seen. `program_bytes` are those of the file in the run folder.
    """

    method: str
    run: str
    search_images: str
    test_images: str
    settings_judged: int
    seconds: float
    setting: Setting
    whole: Verdict
    found: Verdict
    losses: list[Loss]
    program_bytes_before: int
    program_bytes: int
    test_accuracy_before: float
    test_accuracy: float
    test_accuracy_fine_tuned: float | None = None
    fine_tuned_epochs: int = 0

    @property
    def saved(self) -> float:
        """Percent of the program's bytes."""
        return 100 * (1 - self.program_bytes / self.program_bytes_before)


def compress(source: RunFolder, out: RunFolder, method: str, request: Request, data: str = "",
             fine_tune: int = 0, command: str = "", note: Note = lambda text: None) -> Report:
    """Write into `out` the model that `method` makes of `source`, and say what it lost.

    `data` is what the source was trained on unless given. Raises Infeasible when no setting meets
    the constraints, with the best one that keeps the accuracy in `out`.
    """
    spec, start = data or source.card().data, time.monotonic()
    judge = Judge(source, spec, out.path / SEARCH_FILE, request.images, request.seed)
    try:
        setting, failed = METHODS[method](judge, request, note), None
    except Infeasible as error:
        setting, failed = error.best, error
    searched = {"method": method, "seconds": time.monotonic() - start,
                "settings_judged": len(judge.named)}
    report = _written(judge, setting, out, spec, command, searched)
    if failed:
        out.append_result(_record(report))
        raise Infeasible(f"{failed.message}; that model is in {out.path}", failed.hint,
                         failed.best) from None
    if fine_tune:
        note(f"fine-tuning for {fine_tune} epochs")
        report = _fine_tuned(report, out, spec, fine_tune, command)
    out.append_result(_record(report))
    return report


def _written(judge: Judge, setting: Setting, out: RunFolder, spec: str, command: str,
             searched: dict) -> Report:
    """The setting applied, written and tested."""
    source, test = judge.source, load(spec, "test")
    before = program_of(judge.card, judge.weights, test)
    card, weights = apply(setting, judge.card, judge.weights)
    program = program_of(card, weights, test)
    accuracy = integer_accuracy(program, test)
    card = msgspec.structs.replace(
        card, parent=source.weights_sha256(), command=command,
        metrics={"integer_accuracy": accuracy / 100})
    out.write_model(card, weights)
    file.write(program, out.program_path)
    whole, found = judge.whole, judge(setting)
    return Report(
        **searched, run=str(out.path), search_images=judge.data_name,
        test_images=f"{test.name} ({len(test)})", setting=setting, whole=whole, found=found,
        losses=losses(judge, setting), program_bytes_before=len(file.to_bytes(before)),
        program_bytes=out.program_path.stat().st_size,
        test_accuracy_before=integer_accuracy(before, test), test_accuracy=accuracy)


def _fine_tuned(report: Report, out: RunFolder, spec: str, epochs: int, command: str) -> Report:
    """The model trained on; the one before stays in the folder `untuned`."""
    from edgesvit.train import TrainSettings, train

    untuned, tuned = RunFolder(out.path / "untuned"), RunFolder(out.path / "tuned")
    untuned.write_model(out.card(), out.weights())
    train(TrainSettings(data=spec, run=str(tuned.path), start=str(untuned.path), epochs=epochs,
                        learning_rate=FINE_TUNE_LEARNING_RATE), command=command)
    card, weights, test = _merged(tuned.card(), out.card()), tuned.weights(), load(spec, "test")
    program = program_of(card, weights, test)
    accuracy = integer_accuracy(program, test)
    metrics = card.metrics | {"integer_accuracy": accuracy / 100}
    out.write_model(msgspec.structs.replace(card, metrics=metrics), weights)
    file.write(program, out.program_path)
    return msgspec.structs.replace(report, test_accuracy_fine_tuned=accuracy,
                                   fine_tuned_epochs=epochs,
                                   program_bytes=out.program_path.stat().st_size)


def _merged(tuned: ModelCard, before: ModelCard) -> ModelCard:
    """The trained model's card as a child of the model that was compressed."""
    return msgspec.structs.replace(tuned, parent=before.parent, weight_bits=before.weight_bits)


def _record(report: Report) -> dict:
    return {"kind": "compress", "saved_percent": report.saved, **msgspec.to_builtins(report)}
