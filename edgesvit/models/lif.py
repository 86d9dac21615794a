"""The leaky integrate-and-fire neuron over all time steps, and its surrogate gradient."""

import torch
from torch import Tensor, nn

SURROGATE_ALPHA = 4.0


class Lif(nn.Module):
    """LIF with tau 2, decayed input, hard reset to 0: currents [T, ...] to spikes 0/1 [T, ...].

    Per step h = v + (x - v)/2, s = [h >= threshold] (a tie fires), v = (1 - s) h. The membrane
    starts at 0 in every forward; nothing is kept. Backward uses the derivative of
    sigmoid(4 (h - threshold)) and takes the reset as a constant (Spikformer's neuron).
    """

    def __init__(self, threshold: float = 1.0):
        super().__init__()
        self.threshold = threshold

    def forward(self, currents: Tensor) -> Tensor:
        return _LifFunction.apply(currents, self.threshold)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"


class _LifFunction(torch.autograd.Function):
    """All T steps as one node of the graph: only the membranes are kept for the backward."""

    @staticmethod
    def forward(ctx, currents: Tensor, threshold: float) -> Tensor:
        membranes, spikes = _frames_like(currents), _frames_like(currents)
        carried = torch.empty_like(membranes[0])  # v after the reset
        for t in range(currents.shape[0]):
            h = membranes[t]
            if t == 0:
                torch.mul(currents[t], 0.5, out=h)
            else:
                torch.add(carried, currents[t], out=h).mul_(0.5)  # v + (x - v)/2
            torch.ge(h, threshold, out=spikes[t])
            torch.addcmul(h, h, spikes[t], value=-1, out=carried)  # (1 - s) h
        ctx.save_for_backward(membranes)
        ctx.threshold = threshold
        return spikes

    @staticmethod
    def backward(ctx, grad_spikes: Tensor) -> tuple[Tensor, None]:
        (membranes,) = ctx.saved_tensors
        grad_currents = torch.empty_like(membranes)
        scratch = torch.empty_like(membranes[0])
        offset = membranes.new_tensor(-SURROGATE_ALPHA * ctx.threshold)
        last = membranes.shape[0] - 1
        for t in range(last, -1, -1):
            h, out = membranes[t], grad_currents[t]
            torch.add(offset, h, alpha=SURROGATE_ALPHA, out=scratch).sigmoid_()
            torch.ops.aten.sigmoid_backward.grad_input(grad_spikes[t], scratch, grad_input=out)
            out.mul_(0.5 * SURROGATE_ALPHA)
            if t < last:  # dL/dv_t is dL/dx_(t+1): both enter h_(t+1) with the factor 1/2
                torch.lt(h, ctx.threshold, out=scratch)
                out.addcmul_(grad_currents[t + 1], scratch, value=0.5)
        return grad_currents, None


def _frames_like(currents: Tensor) -> Tensor:
    """An empty tensor like `currents` in which every frame has the memory order of frame 0.

    `empty_like` alone loses channels-last when one frame is expanded over T.
    """
    frame = currents[0]
    order = torch.empty_like(frame).stride()
    size = frame.numel()
    flat = currents.new_empty(currents.shape[0] * size)
    return flat.as_strided(currents.shape, (size, *order))
