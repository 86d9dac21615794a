"""The table that `edgesvit deploy` prints."""

from collections.abc import Sequence

from edgesvit.measure.result import Samples, TargetResult
from edgesvit.report.table import table


def deployment_table(results: Sequence[TargetResult]) -> str:
    """What each target computed and how long it took, then what memory it used."""
    first = results[0]
    lines = [f"{first.model}, program {first.program_crc32}: integer accuracy "
             f"{first.accuracy:.2f} % of {first.accuracy_images} held-out images"
             + (f" (float {first.float_accuracy:.2f} %)" if first.float_accuracy else "")]
    runs = [(_where(r), f"{r.logits_equal}/{r.images}", _instructions(r), _latency(r), r.label)
            for r in results]
    lines += ["", table(("target", "logits equal", "instructions/inference", "latency ms", "is"),
                        runs)]
    lines += [_inexact(r) for r in results if not r.exact]
    rows = [(_where(r), row.region, row.use, row.estimated_bytes, row.linked_bytes,
             row.observed_bytes, row.region_budget_bytes) for r in results for row in r.memory]
    lines += ["", table(("target", "region", "use", "estimated", "linked", "observed",
                         "region budget, bytes"), rows)]
    return "\n".join(lines)


def _where(result: TargetResult) -> str:
    """The target, with the runtime where it is not our own."""
    own = result.runtime == "native"
    return result.target if own else f"{result.target} ({result.runtime})"


def _inexact(result: TargetResult) -> str:
    """How far the logits of a runtime that promises no equality are from the interpreter's."""
    if result.classes_equal is None:
        return f"{_where(result)}: another network, untrained: its time is all that it shows"
    return (f"{_where(result)}: not exact; same class {result.classes_equal}/{result.images}, "
            f"logits differ by at most {100 * result.largest_difference:.3g} % of the largest")


def _instructions(result: TargetResult) -> int | None:
    counted = result.instructions_per_inference
    return round(counted.median) if counted else None


def _latency(result: TargetResult) -> str:
    return _spread(result.latency_us) if result.latency_us else "-"


def _spread(latency: Samples) -> str:
    return (f"{latency.median / 1000:.3f} ({latency.minimum / 1000:.3f} to "
            f"{latency.maximum / 1000:.3f})")
