"""An optional cross-check: litert-torch's converter on the float form of a program, logits equal.

The converter is no dependency, and 2 GB: where it is not installed this is skipped.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
litert_torch = pytest.importorskip(
    "litert_torch", reason="optional cross-check: needs the converter, pip install litert-torch")
pytest.importorskip("executorch", reason="needs the executorch extra, whose float form it reads")

from edgesvit.cli.options import model_folder  # noqa: E402
from edgesvit.data import load  # noqa: E402
from edgesvit.evaluate import program_of  # noqa: E402
from edgesvit.program.interpret import run  # noqa: E402


def test_the_converter_gives_the_interpreter_s_logits():
    from edgesvit.lower.executorch.floats import FloatProgram
    source, data = model_folder("spikformer-digits"), load("digits", "test")
    program = program_of(source.card(), source.weights(), data)
    images = [torch.from_numpy(image.astype(np.float32)) for image in data.images[:3]]
    converted = litert_torch.convert(FloatProgram(program).eval(), (images[0],))
    for image, stored in zip(images, data.images[:3], strict=True):
        assert np.asarray(converted(image)).reshape(-1).tolist() == run(program, stored).tolist()
