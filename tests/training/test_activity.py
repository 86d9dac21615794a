"""How often neurons fire, as a training hears it and learns to avoid it."""

import pytest

torch = pytest.importorskip("torch")

from edgesvit.models.families import build  # noqa: E402
from edgesvit.models.integer_lif import IntegerLif  # noqa: E402
from edgesvit.models.lif import Lif  # noqa: E402
from edgesvit.training.activity import Activity  # noqa: E402
from tests.compress.models import CONFIGS  # noqa: E402


def test_the_rate_is_that_of_all_neurons():
    model = torch.nn.Sequential(Lif(), IntegerLif(4, "even"))
    heard = Activity(model)
    currents = torch.tensor([[3.0, 0.0, 2.0, 1.0]], requires_grad=True)  # T = 1: h = x / 2
    fired = model(currents)  # spikes 1 0 1 0, and the levels of these over 4
    assert fired.tolist() == [[0.25, 0.0, 0.25, 0.0]]
    assert heard.rate().item() == pytest.approx((2 + 0.5) / 8)
    model(currents)
    heard.rate().backward()
    assert (currents.grad > 0).any()


def test_evaluation_is_not_heard():
    model = Lif()
    heard = Activity(model)
    with torch.no_grad():
        model(torch.ones(2, 3))
    assert heard.fired == []


@pytest.mark.parametrize("name", ["spikformer", "sdt_v3"])
def test_learning_to_fire_less(name):
    torch.manual_seed(1)
    model = build(CONFIGS[name])
    heard = Activity(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    images = torch.randn(8, 3, 8, 8)
    rates = []
    for _ in range(12):
        model(images)
        rate = heard.rate()
        rates.append(rate.item())
        optimizer.zero_grad()
        rate.backward()
        optimizer.step()
    assert rates[-1] < 0.95 * rates[0]
