import dataclasses
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesvit[train]'")

from torch.nn import functional as F  # noqa: E402

from edgesvit.architecture import Architecture, new_config  # noqa: E402
from edgesvit.batches import normalised  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.errors import UsageError  # noqa: E402
from edgesvit.models.families import build  # noqa: E402
from edgesvit.run_folder import ModelCard, RunFolder  # noqa: E402
from edgesvit.training.teacher import answer_of, load_teacher, training_loss  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train")


@pytest.fixture
def teacher(digits, tmp_path):
    """An untrained model in a run folder, with a normalisation of its own."""
    config = new_config(Architecture(dim=16, depth=1, heads=2, time_steps=2), digits)
    model = build(config)
    for norm in model.modules():  # so strong that neurons fire
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.constant_(norm.weight, 4)
    model.eval()
    card = ModelCard(config=config, mean=(0.5,), std=(0.2,), labels=digits.classes, data="digits")
    RunFolder(tmp_path).write_model(card, model.state_dict())
    return str(tmp_path), model


def test_a_teacher_sees_the_images_in_its_own_normalisation(digits, teacher):
    path, model = teacher
    pixels = torch.from_numpy(digits.images[:16].copy())
    answers = load_teacher(path, digits, CPU)(normalised(pixels, digits.mean, digits.std))
    with torch.no_grad():
        expected = model(normalised(pixels, (0.5,), (0.2,)))
        other = model(normalised(pixels, digits.mean, digits.std))
    assert torch.allclose(answers, expected, atol=1e-4) and not torch.allclose(expected, other)


def test_a_teacher_of_another_task_is_refused(digits, teacher):
    fewer = dataclasses.replace(digits, classes=digits.classes[:9])
    with pytest.raises(UsageError, match="tells 10 classes apart, digits has 9"):
        load_teacher(teacher[0], fewer, CPU)
    larger = dataclasses.replace(digits, images=np.zeros((4, 16, 16, 1), np.uint8))
    with pytest.raises(UsageError, match="takes 8x8x1 images, digits has 16x16x1"):
        load_teacher(teacher[0], larger, CPU)


def test_without_timm_its_teachers_are_refused_in_one_line(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="needs timm, which is not installed") as caught:
        load_teacher("timm:resnet18", digits, CPU)
    assert caught.value.hint == "pip install timm"


def test_timm_teachers_answer_in_their_size_and_colours(digits, tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet10t", num_classes=10).eval()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    ours = load_teacher(f"timm:resnet10t@{tmp_path}/own.pth", digits, CPU)
    pixels = torch.from_numpy(digits.images[:4].copy())
    wants = timm.data.resolve_model_data_config(model)
    grey = F.interpolate(pixels.permute(0, 3, 1, 2) / 255, wants["input_size"][1:],
                         mode="bilinear", antialias=True)
    mean, std = (torch.tensor(wants[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model((grey - mean) / std)
    answers = ours(normalised(pixels, digits.mean, digits.std))
    assert torch.allclose(answers, expected, atol=1e-3)


class TestLoss:
    first, second, answers = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    options = {"smoothing": 0.1, "temperature": 3.0, "weight": 0.25}

    def truth(self, logits):
        return F.cross_entropy(logits, self.labels, label_smoothing=0.1)

    def kl(self, student):
        p, q = (F.softmax(x / 3.0, 1) for x in (self.answers, student))
        return 9.0 * (p * (p / q).log()).sum(1).mean()

    def test_one_classifier_learns_from_both(self):
        loss = training_loss(self.first, self.labels, self.answers, **self.options)
        assert torch.isclose(loss, 0.75 * self.truth(self.first) + 0.25 * self.kl(self.first))

    def test_of_two_classifiers_the_second_learns_from_the_teacher(self):
        both = (self.first, self.second)
        loss = training_loss(both, self.labels, self.answers, **self.options)
        assert torch.isclose(loss, 0.75 * self.truth(self.first) + 0.25 * self.kl(self.second))
        hard = training_loss(both, self.labels, self.answers, **self.options | {"temperature": 0})
        told = F.cross_entropy(self.second, self.answers.argmax(1))
        assert torch.isclose(hard, 0.75 * self.truth(self.first) + 0.25 * told)

    def test_without_a_teacher_both_classifiers_learn_the_truth(self):
        loss = training_loss((self.first, self.second), self.labels, None, **self.options)
        assert torch.isclose(loss, (self.truth(self.first) + self.truth(self.second)) / 2)
        assert torch.equal(answer_of((self.first, self.second)), (self.first + self.second) / 2)
        assert torch.isclose(training_loss(self.first, self.labels, None, **self.options),
                             self.truth(self.first))
