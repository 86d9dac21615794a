"""The program that reads a board's own power sensors beside what is measured."""

from pathlib import Path

from edgesvit.lower.compile import STRICT, build
from edgesvit.resources import shipped


def build_sampler(compiler: str) -> Path:
    """firmware/linux/sampler.c as a static executable."""
    return build(compiler, [shipped("firmware") / "linux" / "sampler.c"],
                 [*STRICT, "-D_GNU_SOURCE", "-O2", "-static"], "edgesvit-sampler")
