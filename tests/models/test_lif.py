import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesvit.models.lif import SURROGATE_ALPHA, Lif


class PlainSpike(torch.autograd.Function):
    """The surrogate alone; the rest is left to autograd."""

    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance)

    @staticmethod
    def backward(ctx, grad):
        (distance,) = ctx.saved_tensors
        s = torch.sigmoid(SURROGATE_ALPHA * distance)
        return grad * SURROGATE_ALPHA * s * (1 - s)


def plain_lif(currents, threshold):
    v, spikes = torch.zeros_like(currents[0]), []
    for x in currents:
        h = v + (x - v) / 2
        s = PlainSpike.apply(h - threshold)
        v = (1 - s.detach()) * h
        spikes.append(s)
    return torch.stack(spikes)


@settings(deadline=None)  # the first call of a torch function is slow
@given(
    time_steps=st.integers(1, 8),
    threshold=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2**20),
)
def test_spikes_and_gradient_equal_plain_autograd(time_steps, threshold, seed):
    random = torch.Generator().manual_seed(seed)
    currents = 3 * torch.randn(time_steps, 2, 5, generator=random, dtype=torch.float64)
    grad = torch.randn(currents.shape, generator=random, dtype=torch.float64)
    ours, theirs = currents.clone().requires_grad_(), currents.clone().requires_grad_()
    spikes, expected = Lif(threshold)(ours), plain_lif(theirs, threshold)
    assert torch.equal(spikes, expected)
    spikes.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_gradient_reaches_an_expanded_frame_once_per_step():
    frame = torch.linspace(-1, 4, 12, dtype=torch.float64).view(1, 3, 2, 2).requires_grad_()
    copies = frame.detach().clone().requires_grad_()
    grad = torch.arange(48, dtype=torch.float64).view(4, 1, 3, 2, 2)
    Lif()(frame.expand(4, 1, 3, 2, 2)).backward(grad)
    plain_lif(copies.expand(4, 1, 3, 2, 2), 1.0).backward(grad)
    torch.testing.assert_close(frame.grad, copies.grad)


def test_a_tie_fires_and_resets_to_zero():
    # h = 1 fires at once; then 0.5 (silent, kept), (0.5 + 1.5)/2 = 1 fires again.
    currents = torch.tensor([2.0, 1.0, 1.5, 0.0]).view(4, 1)
    assert Lif()(currents).flatten().tolist() == [1, 0, 1, 0]


def test_nothing_is_kept_between_forwards():
    lif, currents = Lif(), torch.full((1, 1), 1.9)
    assert [lif(currents).item() for _ in range(3)] == [0, 0, 0]


def test_expanded_channels_last_frames_keep_their_memory_order():
    frame = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    spikes = Lif()(frame.expand(4, *frame.shape))
    assert spikes[0].is_contiguous(memory_format=torch.channels_last)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
