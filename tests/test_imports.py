"""Who may import whom, and that everything right of the spike program works without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "edgesvit"

# What each folder may import of the package, beside itself and the leaves.
LEAVES = {"disk", "errors", "resources", "targets", "profiles", "threads", "__init__"}
ARROWS = {
    "program": set(),
    "cost": {"program"},
    "lower": {"program"},
    "boards": {"program", "lower", "measure"},
    "meters": set(),
    "measure": {"program", "cost", "meters"},
    "report": {"measure", "cost"},
    "data": set(),
    "models": set(),
}
EXCEPTIONS = {(f"program/build/{name}.py", "models")
              for name in ("__init__", "emitter", "qkformer", "sdt_v2", "tokens")}
# Serial ports are opened by one file, boards/serial.py.
EXCEPTIONS |= {(f"meters/{name}.py", "boards") for name in ("port", "detect")}
# A runtime whose files PyTorch writes: imported when it lowers something.
WITH_TORCH = {f"lower/executorch/{name}.py"
              for name in ("delegate", "export", "floats", "operators", "quantize")}


def modules(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Second components of all `edgesvit.x` that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "edgesvit":
                names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("edgesvit.")}
    return names


@pytest.mark.parametrize("path", [p for folder in ARROWS for p in modules(folder)],
                         ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path):
    name = str(path.relative_to(PACKAGE))
    folder = path.relative_to(PACKAGE).parts[0]
    forbidden = imported(path) - ARROWS[folder] - LEAVES - {folder, "__version__"}
    assert not {target for target in forbidden if (name, target) not in EXCEPTIONS}


def test_torch_is_needed_for_training_and_compression_only():
    folders = ("program", "cost", "lower", "boards", "measure", "report", "data")
    names = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts)
             for folder in folders for p in modules(folder)
             if str(p.relative_to(PACKAGE)) not in WITH_TORCH]
    names += ["edgesvit.deploy", "edgesvit.run_folder", "edgesvit.cli.deploy",
              "edgesvit.cli.targets", "edgesvit.cli.lower", "edgesvit.cli.inspect"]
    code = "import sys; sys.modules['torch'] = None\n" + "".join(f"import {n}\n" for n in names)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         cwd=PACKAGE.parent)
    assert run.returncode == 0, run.stderr


def test_no_file_is_too_long():
    long = {str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py")
            if (n := len(p.read_text().splitlines())) > 400}
    assert not long
