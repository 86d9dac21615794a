import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from edgesvit.training.lamb import Lamb  # noqa: E402


def by_the_paper(x, grads, lr, decay, adapt=True, betas=(0.9, 0.999), eps=1e-6):
    """Algorithm 2 of You et al. with phi(z) = z, in float64."""
    m = v = np.zeros_like(x)
    for t, g in enumerate(grads, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        r = m / (1 - betas[0]**t) / (np.sqrt(v / (1 - betas[1]**t)) + eps) + decay * x
        length, reach = np.linalg.norm(x), np.linalg.norm(r)
        ratio = length / reach if adapt and length > 0 and reach > 0 else 1.0
        x = x - lr * ratio * r
    return x


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_the_paper(adapt, decay):
    random = np.random.RandomState(0)
    starts = [random.randn(3, 4), 10 * random.randn(5), np.zeros(6)]
    grads = [[random.randn(*x.shape) for x in starts] for _ in range(4)]
    params = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in starts]
    optimizer = Lamb(params, lr=0.05, weight_decay=decay, adapt=adapt)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = torch.from_numpy(g)
        optimizer.step()
    for i, p in enumerate(params):
        expected = by_the_paper(starts[i], [g[i] for g in grads], 0.05, decay, adapt)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_step_is_a_share_of_the_tensors_length_whatever_the_gradient():
    lengths = []
    for scale in (1e-3, 1e3):
        p = torch.nn.Parameter(torch.full((4, 4), 2.0))
        before = p.detach().clone()
        p.grad = torch.full_like(p, scale)
        Lamb([p], lr=0.01).step()
        lengths.append(float((p.detach() - before).norm() / before.norm()))
    np.testing.assert_allclose(lengths, 0.01, rtol=1e-3)
