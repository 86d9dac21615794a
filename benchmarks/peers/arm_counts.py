"""Exact instruction counts of the peers' own aarch64 builds."""

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import build
from edgesvit.resources import cache_dir, shipped
from peers.arm_root import ArmRoot

HERE = Path(__file__).resolve().parent
GUEST = HERE / "arm_guest.py"
MEASURED = 4  # inferences between the marks of arm_guest.py


def plugin() -> Path:
    """The QEMU plug-in that counts between marks."""
    source = HERE.parent / "kernels" / "count_marks.c"
    header = shipped("firmware") / "emulation" / "qemu_plugin.h"
    return build("cc", [source], ["-O2", "-shared", "-fPIC", f"-I{header.parent}"], "libmarks.so",
                 depends=[header])


def instructions(root: ArmRoot, cpu: str, peer: str, models: list[bytes]) -> list[int]:
    """Instructions of one inference of each model under `peer` (see arm_guest.py), on `cpu`.

    Cached by the root (which stands for all versions), the processor and the models.
    """
    key = hashlib.sha256("\0".join([root.folder.name, cpu, peer]).encode() + GUEST.read_bytes())
    for model in models:
        key.update(hashlib.sha256(model).digest())
    cached = cache_dir("peer-counts") / f"{key.hexdigest()[:24]}.json"
    if not cached.exists():
        cached.write_text(json.dumps(_count(root, cpu, peer, models)))
    return json.loads(cached.read_text())


def _count(root: ArmRoot, cpu: str, peer: str, models: list[bytes]) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{n}.model") for n in range(len(models))]
        for file, model in zip(files, models, strict=True):
            file.write_bytes(model)
        out = Path(folder, "marks")
        argv = root.argv(cpu, f"{plugin()},out={out}")
        run = subprocess.run([*argv, str(GUEST), peer, *map(str, files)], capture_output=True,
                             text=True)
        marks = [int(line.split()[1]) for line in out.read_text().splitlines()
                 if line.startswith("mark")] if out.exists() else []
    if run.returncode or len(marks) != 2 * len(models):
        words = run.stderr.strip().splitlines()
        raise EdgesvitError(f"{peer} on {cpu}: exit status {run.returncode} "
                            f"{words[-1] if words else ''}")
    return [(end - begin) // MEASURED for begin, end in zip(marks[::2], marks[1::2], strict=True)]
