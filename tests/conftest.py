"""What several tests share."""

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with fixtures and data sets that the repository does not carry."""
    place = os.environ.get("EDGESVIT_SHARED")
    folder = Path(place) if place else Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"needs the shared fixtures: no {folder}/fixtures (EDGESVIT_SHARED moves it)")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c():
    """A suite started in a shell's background ignores Ctrl-C, and so would all it starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Threads of small models wait for each other longer than they work, on busy cores most."""
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)
