"""A method from a run folder to a run folder: search, apply, fine-tune, prove on the test split."""

import time

import msgspec

from edgesvit.compress import fit
from edgesvit.compress.fine_tune import keep_recipe, recipe
from edgesvit.compress.frontier import Point, frontier, point
from edgesvit.compress.judge import Judge, Verdict
from edgesvit.compress.losses import Loss, losses
from edgesvit.compress.methods import METHODS, Request, fit_options
from edgesvit.compress.prunable import Infeasible, Note
from edgesvit.compress.setting import WHOLE, Setting
from edgesvit.compress.shrink import Plan, Round, Shrinking, Shrunk, Stopped
from edgesvit.compress.watch import Told
from edgesvit.data import load
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.program import file
from edgesvit.run_folder import ModelCard, RunFolder

SEARCH_FILE = "search.jsonl"  # every answer of the judge: a killed search goes on from it


class Interrupted(EdgesvitError):
    """Ctrl-C; the best so far is in the run folder."""

    exit_code = 130


class Unmet(Infeasible):
    """The limits are not met; `report` has what there is instead."""

    def __init__(self, message: str, hint: str, best: Setting, report: "Report"):
        super().__init__(message, hint, best)
        self.report = report


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a method did. Accuracies are percent, of integer programs; `test_*` are of images that
    no decision has seen. `program_bytes` are those of the file in the run folder. `rounds` are
    fit's, if it trained in between; `setting` and `losses` are then those of the last one.
    `frontier` are the models that fit found to choose from.
    """

    method: str
    run: str
    search_images: str
    calibration_images: str
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
    rounds: tuple[Round, ...] = ()
    frontier: list[Point] = []

    @property
    def saved(self) -> float:
        """Percent of the program's bytes."""
        return 100 * (1 - self.program_bytes / self.program_bytes_before)

    @property
    def drop(self) -> float:
        """Points of test accuracy that the model in the run folder has lost."""
        tuned = self.test_accuracy_fine_tuned
        return self.test_accuracy_before - (self.test_accuracy if tuned is None else tuned)


def compress(source: RunFolder, out: RunFolder, method: str, request: Request, data: str = "",
             fine_tune: int = 0, command: str = "", note: Note = lambda text: None) -> Report:
    """Write into `out` the model that `method` makes of `source`, and say what it lost.

    `data` is what the source was trained on unless given. Raises Unmet when no setting meets
    the constraints, or a fine-tuned model loses more than `max_drop` on the test split, with the
    best one in `out`; Interrupted when fit was.
    """
    spec = data or source.card().data
    job = _Job(source, out, method, request, spec, command, note)
    report, failed = job.shrunk(fine_tune) if request.rounds else job.searched(fine_tune)
    allowed = fit_options(request).max_drop if method == "fit" else request.max_drop
    if not failed and fine_tune and allowed is not None and report.drop > allowed:
        failed = Infeasible(
            f"INFEASIBLE: after {fine_tune} epochs of fine-tuning the model has lost "
            f"{report.drop:.2f} points on {report.test_images}, allowed are {allowed:g}",
            "more --fine-tune epochs, more --rounds, or a larger --max-drop", report.setting)
    out.append_result({"kind": "compress", "saved_percent": report.saved,
                       **msgspec.to_builtins(report)})
    if failed:
        raise Unmet(f"{failed.message}; that model is in {out.path}", failed.hint, failed.best,
                    report) from None
    return report


class _Job:
    """One call of `compress`."""

    def __init__(self, source: RunFolder, out: RunFolder, method: str, request: Request,
                 spec: str, command: str, note: Note):
        self.source, self.out, self.method, self.request = source, out, method, request
        self.spec, self.command, self.note = spec, command, note
        self.began_s = time.monotonic()

    def judge_of(self, folder: RunFolder) -> Judge:
        return Judge(folder, self.spec, self.out.path / SEARCH_FILE, self.request.images,
                     self.request.seed, cluster=self.request.cluster,
                     calibration=self.request.calibration)

    def searched(self, fine_tune: int) -> tuple[Report, Infeasible | None]:
        """One search on the source, and training at the end if any is asked for."""
        judge, failed, points = self.judge_of(self.source), None, []
        try:
            found = METHODS[self.method](judge, self.request, self.note)
            if isinstance(found, fit.Found):
                points = [point(step, self.request.targets) for step in found.judged]
                fit.require_found(found, self.request.targets, fit_options(self.request))
                found = found.best.setting
        except Infeasible as error:
            found, failed = error.best, error
        except fit.Interrupted as stop:
            raise self._stopped(self.source, stop.found.best.setting) from None
        report = self._written(judge, found, points)
        if fine_tune and not failed:
            self.note(f"fine-tuning for {fine_tune} epochs")
            report = self._fine_tuned(report, fine_tune)
        return report, failed

    def shrunk(self, fine_tune: int) -> tuple[Report, Infeasible | None]:
        """fit in rounds, with training behind each."""
        if self.method != "fit" or not fine_tune:
            raise UsageError("--rounds are fit's, and train behind each",
                             "--method fit --rounds 3 --fine-tune 5")
        options, request = fit_options(self.request), self.request
        plan = Plan(rounds=request.rounds, epochs=fine_tune, between=request.between,
                    learning_rate=request.learning_rate, rate_weight=request.rate_weight)
        shrinking = Shrinking(self.judge_of, request.targets, request.profile, options, plan,
                              self.note, Told(self.note))
        try:
            done = shrinking.run(self.source, self.out, self.spec, self.command)
        except Stopped as stop:
            raise self._stopped(stop.folder, stop.setting) from None
        except KeyboardInterrupt:  # between the two
            raise self._stopped(shrinking.reached or self.source, WHOLE) from None
        failed = None
        if done.told:
            failed = Infeasible(f"INFEASIBLE: best reached after {len(done.rounds)} rounds: "
                                f"{done.told}", "more --rounds, more --levers, or a larger board",
                                WHOLE)
        return self._report_of(done), failed

    def _stopped(self, folder: RunFolder, setting: Setting) -> Interrupted:
        """Keep what there is: the model alone, without the figures that would take long."""
        card, weights = self.judge_of(folder).model(setting)
        self._keep(msgspec.structs.replace(card, parent=self.source.weights_sha256(),
                                           command=self.command), weights)
        return Interrupted(f"interrupted: the best so far is in {self.out.path}",
                           "the same command goes on")

    def _keep(self, card: ModelCard, weights: dict) -> float:
        """Write the model and its program; percent of the test split that the program gets right,
        which is in the card too.
        """
        test = load(self.spec, "test")
        program = program_of(card, weights, test)
        accuracy = integer_accuracy(program, test)
        metrics = card.metrics | {"integer_accuracy": accuracy / 100}
        self.out.write_model(msgspec.structs.replace(card, metrics=metrics), weights)
        keep_recipe(self.source, self.out)
        file.write(program, self.out.program_path)
        return accuracy

    def _report(self, judge: Judge, setting: Setting, accuracy: float, judged: int,
                points: list[Point], found: Verdict, whole: Verdict, parts: list[Loss]) -> Report:
        test = load(self.spec, "test")
        before = program_of(self.source.card(), self.source.weights(), test)
        return Report(
            method=self.method, seconds=time.monotonic() - self.began_s, settings_judged=judged,
            run=str(self.out.path), search_images=judge.data_name,
            calibration_images=judge.calibration_name,
            test_images=f"{test.name} ({len(test)})", setting=setting, whole=whole, found=found,
            losses=parts, program_bytes_before=len(file.to_bytes(before)),
            program_bytes=self.out.program_path.stat().st_size, frontier=frontier(points),
            test_accuracy_before=integer_accuracy(before, test), test_accuracy=accuracy)

    def _written(self, judge: Judge, setting: Setting, points: list[Point]) -> Report:
        """The setting applied, written and tested."""
        judged = len(judge.named)
        card, weights = judge.model(setting)
        accuracy = self._keep(msgspec.structs.replace(
            card, parent=self.source.weights_sha256(), command=self.command), weights)
        return self._report(judge, setting, accuracy, judged, points, judge(setting), judge.whole,
                            losses(judge, setting))

    def _fine_tuned(self, report: Report, epochs: int) -> Report:
        """The model trained on; the one before stays in the folder `untuned`."""
        from edgesvit.train import TrainSettings, train

        out = self.out
        untuned, tuned = RunFolder(out.path / "untuned"), RunFolder(out.path / "tuned")
        untuned.write_model(out.card(), out.weights())
        train(TrainSettings(**recipe(self.source), data=self.spec, run=str(tuned.path),
                            start=str(untuned.path), epochs=epochs,
                            learning_rate=self.request.learning_rate),
              command=self.command)
        accuracy = self._keep(_merged(tuned.card(), out.card()), tuned.weights())
        return msgspec.structs.replace(report, test_accuracy_fine_tuned=accuracy,
                                       fine_tuned_epochs=epochs,
                                       program_bytes=out.program_path.stat().st_size)

    def _report_of(self, done: Shrunk) -> Report:
        """Of rounds: the last one's model before and after its training."""
        last = self.out.path / f"round-{len(done.rounds)}"
        start = self.source if len(done.rounds) < 2 else RunFolder(
            self.out.path / f"round-{len(done.rounds) - 1}" / "tuned")
        judge, setting = self.judge_of(start), (done.rounds[-1].setting if done.rounds else WHOLE)
        whole = self.judge_of(self.source).whole
        pruned, tuned = RunFolder(last / "pruned"), done.folder
        tested = self._tested(pruned if done.rounds else tuned)
        card = msgspec.structs.replace(_merged(tuned.card(), self.source.card()),
                                       parent=self.source.weights_sha256(), command=self.command)
        accuracy = self._keep(card, tuned.weights())
        report = self._report(judge, setting, tested, done.judged, list(done.points),
                              self.judge_of(tuned).whole, whole, losses(judge, setting))
        return msgspec.structs.replace(
            report, test_accuracy_fine_tuned=accuracy, rounds=done.rounds,
            fine_tuned_epochs=sum(each.epochs for each in done.rounds))

    def _tested(self, folder: RunFolder) -> float:
        test = load(self.spec, "test")
        return integer_accuracy(program_of(folder.card(), folder.weights(), test), test)


def _merged(tuned: ModelCard, before: ModelCard) -> ModelCard:
    """The trained model's card as a child of the model that was compressed."""
    return msgspec.structs.replace(tuned, parent=before.parent, weight_bits=before.weight_bits)
