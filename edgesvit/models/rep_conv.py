"""Chains of linear layers that train as several and run as one, and their exact fold."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class RepConv(nn.Module):
    """Point-wise, BN, padding, depth-wise 3x3, point-wise, BN: one 3x3 convolution in disguise.

    Widths C, M inside (C in the authors' code), C'.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            BnAndPad(hidden),
            nn.Sequential(
                nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False),
                nn.Conv2d(hidden, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class BnAndPad(nn.Module):
    """BN, then a border of one pixel that holds BN(0): [B, C, H, W] to [B, C, H + 2, W + 2].

    The border takes the running statistics in training too, and passes no gradient on to them.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.bn(x)
        batch, channels, height, width = x.shape
        _, zero = bn_scale_shift(self.bn)
        border = zero.detach().to(normed.dtype)[None, :, None, None]
        padded = border.expand(batch, channels, height + 2, width + 2).clone()
        padded[:, :, 1:-1, 1:-1] = normed
        return padded


def fold_rep_conv(layer: nn.Sequential) -> tuple[Tensor, Tensor]:
    """A RepConv and the BN behind it as one 3x3 convolution, zero padding 1.

    Returns the kernel [O, I, 3, 3] and the bias [O], exact in evaluation mode, borders included:
    a border of BN(0) is what a zero border of the input becomes.
    """
    rep_conv, outer = layer
    pointwise1, padding, (depthwise, pointwise2, inner) = rep_conv.body
    a1, c1 = bn_scale_shift(padding.bn)
    a2, c2 = bn_scale_shift(inner)
    a3, c3 = bn_scale_shift(outer)
    w1 = a1[:, None] * pointwise1.weight[:, :, 0, 0]  # [M, I]
    w2 = (a3 * a2)[:, None] * pointwise2.weight[:, :, 0, 0]  # [O, M]
    window = depthwise.weight[:, 0]  # [M, 3, 3]
    kernel = torch.einsum("om,myx,mi->oiyx", w2, window, w1)
    bias = w2 @ (c1 * window.sum((1, 2))) + a3 * c2 + c3
    return kernel.detach(), bias.detach()


def bn_scale_shift(bn: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The BN of evaluation mode as scale [C] and shift [C]; the shift is BN(0)."""
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    return scale, bn.bias - bn.running_mean * scale


class RepConv1d(nn.Sequential):
    """Point-wise C to M, BN, point-wise M to C', BN on [B, C, N]: one point-wise layer (SDT-V3)."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(inputs, hidden, 1, bias=False),
                                   nn.BatchNorm1d(hidden))
        self.conv2 = nn.Sequential(nn.Conv1d(hidden, outputs, 1, bias=False),
                                   nn.BatchNorm1d(outputs))


def fold_rep_conv1d(rep_conv: RepConv1d, outer: nn.BatchNorm1d | None = None
                    ) -> tuple[Tensor, Tensor]:
    """A RepConv1d and, if there is one, the BN behind it: weight [O, I], bias [O]."""
    (pointwise1, inner1), (pointwise2, inner2) = rep_conv
    a1, c1 = bn_scale_shift(inner1)
    a2, c2 = bn_scale_shift(inner2)
    a3, c3 = bn_scale_shift(outer) if outer else (torch.ones_like(a2), torch.zeros_like(c2))
    w1 = a1[:, None] * pointwise1.weight[:, :, 0]  # [M, I]
    w2 = (a3 * a2)[:, None] * pointwise2.weight[:, :, 0]  # [O, M]
    return (w2 @ w1).detach(), (w2 @ c1 + a3 * c2 + c3).detach()
