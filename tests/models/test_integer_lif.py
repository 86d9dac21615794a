import pytest
import torch

from edgesvit.models.integer_lif import IntegerLif

HALVES = torch.tensor([-0.5, 0.0, 0.5, 1.5, 2.5, 3.5, 4.5])


@pytest.mark.parametrize(
    ("rounding", "levels", "expected"),
    [
        ("even", 4, [0, 0, 0, 2, 2, 4, 4]),
        ("up", 4, [0, 0, 1, 2, 3, 4, 4]),
        ("even", 8, [0, 0, 0, 2, 2, 4, 4]),
        ("up", 8, [0, 0, 1, 2, 3, 4, 5]),
    ],
)
def test_ties(rounding, levels, expected):
    assert IntegerLif(levels, rounding, divided=False)(HALVES).tolist() == expected
    assert IntegerLif(levels, rounding)(HALVES).tolist() == [k / levels for k in expected]


@pytest.mark.parametrize("rounding", ["even", "up"])
@pytest.mark.parametrize("levels", [4, 8])
def test_neighbours_of_a_tie_and_the_cap(rounding, levels):
    """One float below and above each half, where adding 0.5 could round the wrong way."""
    neuron = IntegerLif(levels, rounding, divided=False)
    halves = torch.arange(1, levels) + 0.5  # at 0.5 itself the official floor(x + 0.5) gives 1
    below = torch.nextafter(halves, torch.tensor(0.0))
    above = torch.nextafter(halves, torch.tensor(99.0))
    if rounding == "even":
        assert torch.equal(neuron(below), halves - 0.5)
    assert torch.equal(neuron(above), halves + 0.5)
    assert neuron(torch.tensor([levels + 0.4, levels + 0.6, 1e9])).tolist() == [levels] * 3
    assert neuron(torch.tensor([-1e9, -0.6, -0.0])).abs().tolist() == [0] * 3


@pytest.mark.parametrize(
    ("rounding", "inside"),
    [("even", [0, 1, 1, 1, 1, 1, 0]), ("up", [0, 0, 1, 1, 1, 0, 0])],
)
@pytest.mark.parametrize("divided", [True, False])
def test_straight_through_gradient(rounding, inside, divided):
    x = torch.tensor([-0.1, 0.0, 0.1, 2.5, 3.9, 4.0, 4.1], requires_grad=True)
    IntegerLif(4, rounding, divided)(x).sum().backward()
    assert x.grad.tolist() == [g / 4 if divided else g for g in inside]


def test_the_input_is_left_alone():
    x = torch.tensor([0.4, 1.6])
    IntegerLif(4, "up")(x)
    assert x.tolist() == pytest.approx([0.4, 1.6])


def test_double_precision_passes_through():
    assert IntegerLif(4, "up")(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
