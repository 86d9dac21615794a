import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from torch import nn  # noqa: E402

from edgesvit.training.average import WeightAverage, averaged  # noqa: E402


def test_the_average_soon_forgets_the_start_and_then_follows_the_decay():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(0.9)
    expected = None
    for step in range(1, 201):
        nn.init.constant_(model.weight, float(step))
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = float(step) if expected is None else expected * decay + step * (1 - decay)
        if step == 20:  # a fixed decay would still hold 0.9^19 = 13 % of the first weight
            assert average.values["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert average.values["weight"].item() == pytest.approx(200 - 9, abs=0.01)


def test_the_statistics_are_those_of_the_averaged_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(0.5)
    average.update(model)
    with torch.no_grad():
        model[0].weight.mul_(5)
        model[1].running_mean.fill_(7)
    batches = [torch.randn(64, 3) for _ in range(3)]
    averaged(model, average, batches)
    assert torch.equal(model[0].weight, average.values["0.weight"])
    currents = [model[0](x) for x in batches]
    assert torch.allclose(model[1].running_mean, sum(c.mean(0) for c in currents) / 3, atol=1e-5)
    assert torch.allclose(model[1].running_var, sum(c.var(0) for c in currents) / 3, atol=1e-5)
    assert model[1].momentum == 0.1
