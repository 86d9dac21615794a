"""What the stems of several families share: frames [T, B, C, H, W] through layers of one frame."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesvit.models.lif import Lif


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3, stride 1, same size, no bias: the batch norm behind it brings one."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)


class Depthwise(nn.Conv2d):
    """A window a channel, same size, no bias; on a CPU always in float32.

    In bfloat16 a 7x7 one took 2.7 to 3 times as long there, forward and backward.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2,
                         groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def over_frames(x: Tensor, *layers: nn.Module) -> Tensor:
    """Apply layers to [T, B, ...] with time and batch as one axis, so BN sees T B samples."""
    merged = x.flatten(0, 1)
    for layer in layers:
        merged = layer(merged)
    return merged.unflatten(0, x.shape[:2])


def image_currents(images: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d, time_steps: int) -> Tensor:
    """The first layer: images [B, C, H, W] or event frames [B, T, C, H, W] to [T, B, C', H, W]."""
    if images.ndim == 5:
        return over_frames(images.transpose(0, 1), conv, bn)
    # The image is the same at every step, so its convolution is done once, not T times. The
    # batch statistics of T copies are those of one; only running_var's n/(n-1) sees B H W
    # values instead of T B H W.
    current = bn(conv(images))
    return current.expand(time_steps, *current.shape)


def conv_spikes(x: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d, lif: Lif) -> Tensor:
    """[T, B, C, H, W] to spikes [T, B, C', H, W]."""
    return lif(over_frames(x, conv, bn))


def halve(x: Tensor) -> Tensor:
    """Max-pool 3x3, stride 2, padding 1 over H, W of [T, B, C, H, W]; odd sizes round up."""
    pooled = F.max_pool2d(x.flatten(0, 1), kernel_size=3, stride=2, padding=1)
    return pooled.unflatten(0, x.shape[:2])
