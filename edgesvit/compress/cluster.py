"""Evaluations on other machines: joblib's Dask backend."""

import contextlib
from collections.abc import Iterator

from joblib import parallel_config

from edgesvit.errors import Unreachable, UsageError

CONNECT_S = 10


@contextlib.contextmanager
def on_cluster(address: str) -> Iterator[None]:
    """joblib's jobs run on the Dask cluster whose scheduler is at `address`, tcp://HOST:PORT.

    Its workers have edgesvit and see the same folders. UsageError without Dask, Unreachable when
    nobody answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise UsageError("--cluster needs Dask", "pip install 'edgesvit[cluster]'") from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=True)
    except (OSError, ValueError) as error:
        raise Unreachable(f"no Dask scheduler answers at {address}: {error}",
                          "start one: dask scheduler, and on each machine dask worker ADDRESS"
                          ) from None
    with client, parallel_config(backend="dask"):
        yield
