"""The table that `edgesvit measure` and `edgesvit report` print."""

from collections.abc import Sequence

import msgspec

from edgesvit.measure.layers import LayerTime
from edgesvit.report.layers import layers_table
from edgesvit.report.table import table

HEADER = ("target", "model", "threads", "windows", "latency ms", "p90", "instructions", "is")
ENERGY = ("target", "meter", "mJ/inference", "above idle", "+-", "idle mW", "mean mW", "is",
          "field mJ", "bits mJ", "is ")


def measurement_table(results: Sequence[dict]) -> str:
    """Time of each result (as stored), then its energy beside the analytical figures, then what
    has to be known about them."""
    runs = len({result.get("run") for result in results}) > 1
    head = ("run",) * runs
    lines = [table((*head, *HEADER), [_named(runs, result, _time(result)) for result in results]),
             "", table((*head, *ENERGY),
                       [_named(runs, result, _energy(result)) for result in results])]
    for result in results:
        if meter := result.get("meter"):
            error = meter["error_percent"]  # of a csv file it is not known
            said = "" if error is None or error != error else f", error {meter['error_percent']} %"
            emulated = ", EMULATED: it measures nothing" if meter["emulated"] else ""
            lines.append(f"{result['target']}: {meter['kind']} {meter['serial']} covers "
                         f"{meter['covers']}{said}{emulated}")
        if layers := result.get("layers"):
            lines += ["", f"{result['target']}: each operator, {result['label']}",
                      layers_table(msgspec.convert(layers, list[LayerTime])), ""]
        warnings = [*result.get("warnings", ())]
        lines += [f"{result['target']}: warning: {text}" for text in warnings]
    return "\n".join(lines)


def _named(runs: bool, result: dict, cells: tuple) -> tuple:
    return (result["run"], *cells) if runs else cells


def _where(result: dict) -> str:
    """The target, with the runtime where it is not our own."""
    runtime = result.get("runtime", "native")
    return result["target"] if runtime == "native" else f"{result['target']} ({runtime})"


def _time(result: dict) -> tuple:
    latency, counted = result["latency_us"], result["instructions_per_inference"]
    return (_where(result), result["model"], result["threads"], len(result["inferences"]),
            latency and f"{latency['median'] / 1000:.3f} ({latency['minimum'] / 1000:.3f} to "
                        f"{latency['maximum'] / 1000:.3f})",
            latency and f"{latency['p90'] / 1000:.3f}",
            counted and round(counted["median"]), result["label"])


def _energy(result: dict) -> tuple:
    spent, counted = result["energy"], result["analytical"]
    estimated = (f"{counted['field_mj']:.4g}", f"{counted['bit_aware_mj']:.4g}", counted["label"])
    if not spent:
        return (_where(result), None, None, None, None, None, None, None, *estimated)
    net, idle_w = spent["mj_per_inference_above_idle"], spent["idle_w"]
    return (_where(result), result["meter"]["kind"], f"{spent['mj_per_inference']:.4g}",
            net is not None and f"{net:.4g}" or None, f"{spent['uncertainty_mj']:.2g}",
            None if idle_w is None else f"{1000 * idle_w:.4g}", f"{1000 * spent['mean_w']:.4g}",
            spent["label"], *estimated)
