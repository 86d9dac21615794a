"""PyTorch eager float32 on one layer: alone, and with batch norm and neurons as in training."""

from collections.abc import Callable

from peers.layers import Layer, random_spikes

PACKAGE = "torch"
NAME = "PyTorch fp32, layer with neurons"
NAME_ALONE = "PyTorch fp32, layer alone"


def _module(layer: Layer):
    import torch
    if layer.kernel == 1:
        return torch.nn.Linear(layer.channels, layer.out_channels, bias=False)
    return torch.nn.Conv2d(layer.channels, layer.out_channels, layer.kernel,
                           padding=layer.kernel // 2, bias=False)


def _spikes(layer: Layer):
    import torch
    x = torch.from_numpy(random_spikes(layer)).float()
    if layer.kernel > 1:
        return x.permute(0, 3, 1, 2).contiguous()
    return x.reshape(layer.time_steps, -1, layer.channels)


def _neurons(current):
    """Leaky integrate-and-fire over [T, ...], tau 2, hard reset."""
    import torch
    v, spikes = torch.zeros_like(current[0]), []
    for step in current:
        v = v + (step - v) / 2
        fired = (v >= 1).to(v.dtype)
        v = v * (1 - fired)
        spikes.append(fired)
    return torch.stack(spikes)


def layer_alone(layer: Layer):
    """The linear layer or convolution and its input, float32."""
    return _module(layer).eval(), _spikes(layer)


def prepare_alone(layer: Layer) -> Callable[[], object]:
    """The matrix product or convolution only."""
    import torch
    torch.set_num_threads(1)
    module, x = layer_alone(layer)

    def run():
        with torch.inference_mode():
            return module(x)
    return run


def prepare(layer: Layer) -> Callable[[], object]:
    """Linear or convolution, batch norm, neurons."""
    import torch
    torch.set_num_threads(1)
    module, x = layer_alone(layer)
    norm = (torch.nn.BatchNorm1d if layer.kernel == 1 else torch.nn.BatchNorm2d)(
        layer.out_channels).eval()

    def run():
        with torch.inference_mode():
            y = module(x)
            y = norm(y.transpose(1, 2)).transpose(1, 2) if layer.kernel == 1 else norm(y)
            return _neurons(y)
    return run
