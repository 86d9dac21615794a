"""The spike kernels beside dense programs, layer by layer.

    python benchmarks/kernels.py [--only PART,...] [--quick] [--model RUN] [--json FILE]

Parts: arm, mcu, estimate, x86; attention, bits (of weights), lif (the neuron alone), spikes (those
that a trained model's layers read).

Wall time is of this machine, one core, AMX refused to everybody. Arm's numbers are instructions
counted under emulation, never time; `estimate` has cycles that llvm-mca predicts. Peers run the
dense layer in int8 with all steps in one batch, without the neurons; ours and the own dense kernel
include them. Counts are kept in the cache.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Iterator
from pathlib import Path

from host_runtime import processor
from peers import litert, onnx_runtime, parts
from peers.layers import LAYERS, RATES, Firing, Layer
from peers.no_amx import without_amx

from edgesvit.errors import EdgesvitError
from edgesvit.report.table import table

# Multiply-accumulates an instruction of CMSIS-NN's int8 matrix product, as measured once.
REFERENCE_RATE = {"cortex-m4": 0.6, "cortex-m7": 0.6, "cortex-m55": 4.5}
MCU_LAYERS = (Layer(128, 512, side=8), Layer(512, 128, side=8), Layer(192, 192, side=8),
              Layer(32, 64, 3, side=8))
STEPS = (4, 2, 1)


def x86(given: argparse.Namespace) -> list[dict]:
    """Wall time of ours and every peer."""
    from peers import wall
    for line in wall.missing():
        print(line)
    rows = []
    for layer in [layer.steps(n) for layer in given.layers for n in given.steps]:
        timed = wall.measure(layer, given.rounds, print)
        for t in timed:
            rows.append({"layer": layer.name, "T": layer.time_steps, "program": t.name,
                         "rate": t.rate, "union": t.union, "seconds": t.seconds,
                         "min_ms": t.best * 1e3, "median_ms": t.median * 1e3, "ratio": t.ratios})
        print(f"\n{layer.name}, T = {layer.time_steps}, {given.rounds} rounds, "
              "wall time on one core")
        print(table(("program", "min ms", "median ms", "time over ours at 15 % lif"),
                    [(t.name, f"{t.best * 1e3:.3f}", f"{t.median * 1e3:.3f}", _spread(t.ratios))
                     for t in timed]))
    return rows


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def firings(layer: Layer, full: bool) -> Iterator[Firing]:
    """What ours is counted at: every rate at T = 4, elsewhere 15 % unless `full`."""
    for source in ("lif", "bernoulli") if full or layer == LAYERS[0] else ("lif",):
        for rate in RATES if full or layer.time_steps == 4 else (15,):
            yield Firing(rate, source)


def arm(given: argparse.Namespace) -> list[dict]:
    """Instructions on aarch64 of ours, of the own dense kernel, and of the peers' own builds."""
    from peers import own
    layers = [layer.steps(n) for layer in given.layers for n in given.steps]
    rows = []
    for cpu in own.ARM:
        peers = _arm_peers(cpu, layers)
        for i, layer in enumerate(layers):
            dense = {"own dense": own.count(cpu, "dense", layer, Firing()).instructions,
                     **{name: counts[i] for name, counts in peers.items()}}
            rows += _counted(cpu, layer, dense, given.full)
    return rows


def _arm_peers(cpu: str, layers: list[Layer]) -> dict[str, list[int]]:
    """Instructions of each peer on each layer; a peer that cannot run is named and left out."""
    from peers.arm_counts import instructions
    from peers.arm_root import arm_root
    counts = {}
    for peer, name in ((litert, "litert"), (onnx_runtime, "onnxruntime")):
        try:
            root = arm_root(peer.PACKAGES)
            counts[peer.NAME] = instructions(root, cpu, name, [peer.model(x) for x in layers])
        except (EdgesvitError, ImportError) as error:
            print(f"{peer.NAME} on {cpu}: skipped, {error}")
    return counts


def mcu(given: argparse.Namespace) -> list[dict]:
    """Instructions on Cortex-M of ours and of the own dense kernel; CMSIS-NN by its rate."""
    from peers import own
    rows = []
    for cpu in own.MCU:
        for layer in [layer.steps(n) for layer in MCU_LAYERS for n in given.steps]:
            dense = {"own dense": own.count(cpu, "dense", layer, Firing()).instructions,
                     "CMSIS-NN, reference rate": round(layer.macs / REFERENCE_RATE[cpu])}
            rows += _counted(cpu, layer, dense, given.full)
    return rows


def estimate(given: argparse.Namespace) -> list[dict]:
    """Cycles on Cortex-A76 and M55 as llvm-mca predicts them: perfect caches, branch guesses."""
    from peers import mca
    if not mca.tool():
        print("\nestimate: skipped, needs llvm-mca of LLVM 17 or newer (Debian: llvm-19)")
        return []
    rows = []
    for layer in [layer.steps(4) for layer in given.layers]:
        dense = mca.cycles("dense", layer, Firing())
        for firing in firings(layer, False):
            ours = mca.cycles("ours", layer, firing)
            rows.append({"cpu": "cortex-a76", "layer": layer.name, "T": 4, "firing": firing.rate,
                         "source": firing.source, "estimated_cycles": ours,
                         "dense_estimated_cycles": dense})
    print("\ncortex-a76, T = 4, estimate: cycles by llvm-mca, no cache misses, no wrong guesses")
    print(table(("layer", "firing", "source", "ours, M", "own dense, M", "own dense / ours"),
                [(r["layer"], f"{r['firing']} %", r["source"], f"{r['estimated_cycles'] / 1e6:.2f}",
                  f"{r['dense_estimated_cycles'] / 1e6:.2f}",
                  f"{r['dense_estimated_cycles'] / r['estimated_cycles']:.2f}") for r in rows]))
    return rows + _estimate_m55()


def _estimate_m55() -> list[dict]:
    """CMSIS-NN by the instructions of its rate, each at what one of the own dense kernel takes."""
    from peers import mca, own
    cpu, rows = "cortex-m55", []
    for layer in [layer.steps(4) for layer in MCU_LAYERS]:
        ours, dense = (mca.cycles(kernel, layer, Firing(), cpu) for kernel in ("ours", "dense"))
        each = dense / own.count(cpu, "dense", layer, Firing()).instructions
        rows.append({"cpu": cpu, "layer": layer.name, "T": 4, "firing": 15, "source": "lif",
                     "estimated_cycles": ours, "dense_estimated_cycles": dense,
                     "reference_estimated_cycles": layer.macs / REFERENCE_RATE[cpu] * each})
    print(f"\n{cpu}, T = 4, 15 % lif, estimate: cycles by llvm-mca, loop instructions free")
    print(table(("layer", "ours, M", "own dense, M", "own dense / ours",
                 "CMSIS-NN, reference rate / ours"),
                [(r["layer"], f"{r['estimated_cycles'] / 1e6:.2f}",
                  f"{r['dense_estimated_cycles'] / 1e6:.2f}",
                  f"{r['dense_estimated_cycles'] / r['estimated_cycles']:.2f}",
                  f"{r['reference_estimated_cycles'] / r['estimated_cycles']:.2f}")
                 for r in rows]))
    return rows


def _counted(cpu: str, layer: Layer, dense: dict[str, int], full: bool) -> list[dict]:
    """Rows of ours at each rate, with how many times more the dense programs execute; printed."""
    from peers import own
    rows = []
    for firing in firings(layer, full):
        ours = own.count(cpu, "ours", layer, firing)
        rows.append({"cpu": cpu, "layer": layer.name, "tokens": layer.side ** 2,
                     "T": layer.time_steps, "firing": firing.rate, "source": firing.source,
                     "rate": ours.rate, "union": ours.union, "instructions": ours.instructions,
                     "dense": dense})
    print(f"\n{cpu}, {layer.name}, {layer.side ** 2} tokens, T = {layer.time_steps}, instructions: "
          + ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in dense.items()))
    print(table(("firing", "source", "ours, M", *(f"{name} / ours" for name in dense)),
                [(f"{r['firing']} %", r["source"], f"{r['instructions'] / 1e6:.2f}",
                  *(f"{count / r['instructions']:.2f}" for count in dense.values()))
                 for r in rows]))
    return rows


PARTS = {"arm": arm, "mcu": mcu, "estimate": estimate, "attention": parts.heads,
         "bits": parts.bits, "lif": parts.lif, "spikes": parts.spikes, "x86": x86}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts of these")
    parser.add_argument("--quick", action="store_true", help="the first layer at T = 4 alone")
    parser.add_argument("--full", action="store_true", help="count every firing rate everywhere")
    parser.add_argument("--model", metavar="RUN", help="of `spikes`: run folder or shipped model")
    parser.add_argument("--rounds", type=int, default=15, help="of wall time")
    parser.add_argument("--json", type=Path,
                        default=Path(__file__).parent / "results" / "kernels.json")
    given = parser.parse_args()
    if unknown := set(given.only.split(",")) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    given.layers = LAYERS[:1] if given.quick else LAYERS
    given.steps = STEPS[:1] if given.quick else STEPS
    return given


def main() -> None:
    """Measure, print, write."""
    without_amx()
    given = _arguments()
    versions = {"python": platform.python_version()}
    for peer in (litert, onnx_runtime):
        try:
            versions[peer.NAME] = peer.release()
        except ImportError:
            pass
    results = {"processor": processor(), "versions": versions}
    for part in given.only.split(","):
        results[part] = PARTS[part](given)
        given.json.parent.mkdir(exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{results['processor']}, {os.cpu_count()} cores; written to {given.json.name}")


if __name__ == "__main__":
    main()
