"""LAMB, the optimizer of large batches (You et al., ICLR 2020, algorithm 2)."""

from collections.abc import Iterable

import torch
from torch.optim import Optimizer


class Lamb(Optimizer):
    """Adam's direction, rescaled per tensor so that a step is `lr` of the tensor's own length.

    r = m / (sqrt(v) + eps) + decay x, both moments bias-corrected, then x -= lr |x| / |r| r. The
    ratio is 1 where a norm is 0, and in groups with `adapt` False: a bias that starts at 0 would
    otherwise hardly leave it.
    """

    def __init__(self, params: Iterable, lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
                 weight_decay: float = 0.0, adapt: bool = True):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps,
                                  "weight_decay": weight_decay, "adapt": adapt})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(group, params)

    def _step(self, group: dict, params: list[torch.Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            self.state[p]["step"] += 1
        grads = [p.grad for p in params]
        first, second = ([self.state[p][name] for p in params] for name in "mv")
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        steps = [self.state[p]["step"] for p in params]
        below = torch._foreach_div(second, [1 - beta2**n for n in steps])
        torch._foreach_sqrt_(below)
        torch._foreach_add_(below, group["eps"])
        moves = torch._foreach_div(first, [1 - beta1**n for n in steps])
        torch._foreach_div_(moves, below)
        torch._foreach_add_(moves, params, alpha=group["weight_decay"])
        if group["adapt"]:
            lengths, reaches = torch._foreach_norm(params), torch._foreach_norm(moves)
            torch._foreach_mul_(moves, [torch.where((a > 0) & (b > 0), a / b, 1.0)
                                        for a, b in zip(lengths, reaches, strict=True)])
        torch._foreach_add_(params, moves, alpha=-group["lr"])
