"""One training in several processes, as torchrun starts them."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

# The others wait for the first one while it evaluates and writes.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Ranks:
    """This process, `rank` of `world`, and the device it computes on. Rank 0 alone writes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def shared(self, model: nn.Module) -> nn.Module:
        """`model`, whose backward gives every rank the mean of all ranks' gradients.

        Only while the returned module is alive.
        """
        return DistributedDataParallel(model) if self.world > 1 else model

    def sum(self, totals: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.world > 1:
            distributed.all_reduce(totals)
        return totals

    def wait(self) -> None:
        """Return when all ranks have come this far."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of this torchrun, if it is one: NCCL on GPUs, Gloo on CPUs."""
    world, cuda = int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_available()
    if world == 1:
        yield Ranks(0, 1, torch.device("cuda" if cuda else "cpu"))
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), world, device)
    finally:
        gc.collect()  # a shared model left in a cycle would keep its threads, and abort at exit
        distributed.destroy_process_group()
