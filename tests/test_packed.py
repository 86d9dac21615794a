import numpy as np

from edgesvit.models.config import spikformer
from edgesvit.packed import pack, unpack
from edgesvit.program.build import build
from edgesvit.program.file import to_bytes
from edgesvit.run_folder import ModelCard, RunFolder
from tests.program.test_build import CONFIG, random_weights


def test_a_program_of_packed_weights_has_the_same_integers():
    weights = {name: np.asarray(array, np.float32) for name, array in random_weights().items()}
    program, again = (build(CONFIG, w, (0.5, 0.5), (0.2, 0.2))
                      for w in (weights, unpack(pack(weights))))
    for op, other in zip(program.ops, again.ops, strict=True):
        if hasattr(op, "weight"):
            assert (op.weight == other.weight).all()
    assert len(to_bytes(program)) == len(to_bytes(again))


def test_packing_rounds_matrices_and_keeps_vectors():
    weights = {"a.weight": np.array([[1.0, -0.6], [0.0, 0.0]], np.float32),
               "a.bias": np.array([0.3], np.float32), "steps": np.array(7)}
    packed = pack(weights)
    assert packed["a.weight"].tolist() == [[127, -76], [0, 0]]
    assert packed["a.weight"].dtype == np.int8 and packed["a.bias"] is weights["a.bias"]
    plain = unpack(packed)
    assert set(plain) == set(weights) and plain["a.weight"].dtype == np.float32
    assert np.abs(plain["a.weight"] - weights["a.weight"]).max() <= 0.5 / 127 + 1e-7
    assert unpack(weights).keys() == weights.keys()


def test_a_run_folder_reads_packed_weights(tmp_path):
    config = spikformer((8, 8), 1, 2, dim=8, depth=1, heads=1, pool="0001")
    card = ModelCard(config=config, mean=(0.5,), std=(0.2,), labels=("a", "b"), data="digits")
    folder = RunFolder(tmp_path)
    weights = {"x.weight": np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)}
    folder.write_model(card, pack(weights))
    assert np.abs(folder.weights()["x.weight"] - weights["x.weight"]).max() < 0.01
