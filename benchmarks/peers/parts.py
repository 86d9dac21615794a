"""Parts of kernels.py that look closer: attention, weight bits, the neuron, recorded spikes."""

import argparse

from edgesvit.cli.options import dataset, model_folder
from edgesvit.evaluate import program_of
from edgesvit.report.table import table
from peers import attention, mca, neuron, own, recorded
from peers.layers import RATES, Firing, Layer

CPU = "cortex-a76"
BITS = (8, 7, 4)
MCU_LAYERS = (Layer(512, 128, side=8), Layer(128, 512, side=8))


def heads(given: argparse.Namespace) -> list[dict]:
    """One head of self-attention, neurons and code bytes included."""
    dense = {name: attention.cost(name, Firing()) for name in list(attention.PROGRAMS)[1:]}
    firings = [Firing(rate, source) for source in ("lif", "bernoulli") for rate in RATES]
    ours = [(firing, attention.cost("ours", firing)) for firing in [attention.SILENT, *firings]]
    print(f"\n{CPU}, one head of self-attention, N = {attention.TOKENS}, d = {attention.DIM}, "
          f"T = {attention.STEPS}, of one step")
    shown = [(name, "", "", *_shown(c), "", "") for name, c in dense.items()]
    for firing, c in ours:
        times = [f"{d.instructions / c.instructions:.2f}" for d in dense.values()]
        shown.append(("ours", f"{firing.rate} %", firing.source if firing.rate else "", *_shown(c),
                      *times))
    print(table(("program", "firing", "source", "instructions", "predicted cycles",
                 *(f"{name} / ours" for name in dense)), shown))
    print("at 0 %: counts cleared, codes read, neurons, codes written")
    return [{"program": name, "instructions": c.instructions, "cycles": c.cycles}
            for name, c in dense.items()] + [
        {"program": "ours", "firing": f.rate, "source": f.source,
         "instructions": c.instructions, "cycles": c.cycles} for f, c in ours]


def _shown(cost: attention.Cost) -> tuple[str, str]:
    return f"{cost.instructions:.0f}", "none" if cost.cycles is None else f"{cost.cycles:.0f}"


def bits(given: argparse.Namespace) -> list[dict]:
    """Ours with weights of fewer bits, as the file packs them, at 15 %."""
    places = [(CPU, layer) for layer in given.layers]
    places += [(cpu, layer) for cpu in own.MCU for layer in MCU_LAYERS]
    rows = []
    for cpu, layer in places:
        row = {"cpu": cpu, "layer": layer.name,
               "dense": own.count(cpu, "dense", layer, Firing()).instructions}
        for b in BITS:
            row[str(b)] = own.count(cpu, "ours", layer.packed(b), Firing()).instructions
            if cpu == CPU and mca.tool():
                row[f"cycles {b}"] = mca.cycles("ours", layer.packed(b), Firing())
        rows.append(row)
    print("\nweights of 8, 7 and 4 bits, T = 4, 15 % lif: millions of instructions "
          "(and of cycles that llvm-mca predicts), and own dense over them")
    print(table(("processor", "layer", "own dense", *(f"{b} bits" for b in BITS),
                 *(f"dense / {b} bits" for b in BITS)), [_bits_row(r) for r in rows]))
    print("Cortex-M: packed rows in place; layers that firmware unpacks to memory behind the arena "
          "cost what 8 bits do")
    return rows


def _bits_row(row: dict) -> tuple[str, ...]:
    def millions(b: int) -> str:
        cycles = row.get(f"cycles {b}")
        return f"{row[str(b)] / 1e6:.2f}" + (f" ({cycles / 1e6:.2f})" if cycles else "")

    return (row["cpu"], row["layer"], f"{row['dense'] / 1e6:.2f}", *map(millions, BITS),
            *(f"{row['dense'] / row[str(b)]:.2f}" for b in BITS))


def lif(given: argparse.Namespace) -> list[dict]:
    """The fused neuron (peers/neuron.py says what is counted)."""
    silent = Firing(0)
    costs = {"instructions":
             neuron.neuron(lambda layer: own.count(CPU, "ours", layer, silent).instructions)}
    if mca.tool():
        costs["predicted cycles"] = neuron.neuron(lambda x: mca.cycles("ours", x, silent))
        costs |= {f"{unit}, its code alone": n for unit, n in neuron.alone().items()}
    print(f"\n{CPU}, the fused neuron, per neuron and step")
    print(table(("", "T = 4, all of it", "one more step"),
                [(name, f"{n.whole:.3f}", f"{n.step:.3f}") for name, n in costs.items()]))
    return [{"unit": name, "whole": n.whole, "step": n.step} for name, n in costs.items()]


def spikes(given: argparse.Namespace) -> list[dict]:
    """Ours on the spikes of a trained model, beside LIF-like ones of the same rate."""
    source = model_folder(given.model)
    data = dataset(None, source)
    program = program_of(source.card(), source.weights(), data)
    rows = [_recorded(r) for r in recorded.recordings(program, data.images[0])]
    print(f"\n{CPU}, layers of {source.path.name} on its first test image: instructions with the "
          "spikes they read, and with LIF-like ones")
    print(table(("name", "layer", "tokens", "rate", "union", "instructions", "lif rate",
                 "lif union", "lif instructions", "lif / real"),
                [(r["name"], r["layer"], r["tokens"], f"{r['real'].rate:.1%}",
                  f"{r['real'].union:.1%}", r["real"].instructions, f"{r['like'].rate:.1%}",
                  f"{r['like'].union:.1%}", r["like"].instructions,
                  f"{r['like'].instructions / r['real'].instructions:.2f}") for r in rows]))
    return [r | {key: vars(r[key]) for key in ("real", "like")} for r in rows]


def _recorded(r: recorded.Recording) -> dict:
    return {"name": r.name, "layer": r.layer.name, "tokens": r.layer.side**2,
            "real": own.count(CPU, "ours", r.layer, r.real),
            "like": own.count(CPU, "ours", r.layer, r.like)}
