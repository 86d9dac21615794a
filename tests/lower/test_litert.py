"""Spike programs as .tflite files: the interpreter's logits, and what is refused."""

import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("flatbuffers", reason="needs the litert extra")
runtime = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the litert extra")

from edgesvit.cli.options import dataset, model_folder  # noqa: E402
from edgesvit.errors import EdgesvitError, UsageError  # noqa: E402
from edgesvit.evaluate import program_of  # noqa: E402
from edgesvit.lower import litert  # noqa: E402
from edgesvit.lower.litert import kernels, package  # noqa: E402
from edgesvit.lower.litert.exact import exact  # noqa: E402
from edgesvit.lower.litert.fast import fast  # noqa: E402
from edgesvit.lower.litert.graph import Graph  # noqa: E402
from edgesvit.lower.litert.integers import Number, rescale  # noqa: E402
from edgesvit.lower.litert.memory import activation_bytes  # noqa: E402
from edgesvit.lower.litert.neurons import levels, lif  # noqa: E402
from edgesvit.lower.litert.twin import twin  # noqa: E402
from edgesvit.program import interpret  # noqa: E402
from edgesvit.program.file import write  # noqa: E402
from edgesvit.program.ops import Check, Classify, Kind  # noqa: E402
from edgesvit.resources import shipped  # noqa: E402
from edgesvit.targets import load  # noqa: E402
from tests.program.programs import (  # noqa: E402
    Builder,
    random_image,
    random_membrane_program,
    random_program,
)

BUILTIN = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
MODELS = ("spikformer", "qkformer", "sdt_v1", "sdt_v2", "sdt_v3")


def opened(model, resolver=runtime.OpResolverType.AUTO):
    it = runtime.Interpreter(model_content=model, num_threads=1,
                             experimental_op_resolver_type=resolver)
    it.allocate_tensors()
    return it


def run(it, *tensors):
    for detail, x in zip(it.get_input_details(), tensors, strict=True):
        it.set_tensor(detail["index"], x.reshape(detail["shape"]))
    it.invoke()
    return it.get_tensor(it.get_output_details()[0]["index"])


def classified(it, image):
    return run(it, (image ^ 0x80).view(np.int8)).reshape(-1)


def shipped_program(name):
    source = model_folder(f"{name}-digits")
    data = dataset(None, source)
    return program_of(source.card(), source.weights(), data), data


@pytest.mark.parametrize("make", (random_program, random_membrane_program))
@pytest.mark.parametrize("resolver", (runtime.OpResolverType.AUTO, BUILTIN),
                         ids=("xnnpack", "own"))
def test_random_programs_are_exact(make, resolver, monkeypatch):
    monkeypatch.setattr(Builder, "on_chosen", lambda self, source, block: block(source))
    ran = 0
    for seed in range(12):
        program = make(seed)
        try:
            model = exact(program)
        except EdgesvitError as error:  # random scales make random sums
            assert "exactly: it may reach" in error.message
            continue
        it = opened(model, resolver)
        for image in (random_image(program, seed), random_image(program, seed + 1000)):
            assert np.array_equal(classified(it, image), interpret.run(program, image)), seed
        ran += 1
    assert ran >= 6


@pytest.mark.parametrize("gives", [(Kind.SPIKES, 1), (Kind.LEVELS, 4), (Kind.MEMBRANE, 20000)],
                         ids=lambda gives: gives[0].name)
@pytest.mark.parametrize("steps", (1, 4, 8))
def test_operators_on_large_membranes(gives, steps):
    """Currents beyond 2**24 come in two digits, through neurons and scales alike."""
    build = Builder(np.random.default_rng(steps), steps, (5, 4, 3))
    x = build.encode(40, gives=(Kind.MEMBRANE, 32767))
    x = build.conv(x, 24, gives=gives, extreme=True)
    if gives[0] == Kind.MEMBRANE:
        x = build.conv(build.depthwise(x, gives=gives, stream=x), 24, gives=gives, stream=x)
        x = build.fire(x, over_tokens=True)
    program = build.finish(x, 7)
    it = opened(exact(program))
    for seed in range(4):
        image = random_image(program, seed)
        assert np.array_equal(classified(it, image), interpret.run(program, image))


@pytest.mark.parametrize("bound, shift, top", [(100, 3, 1 << 10), (1 << 14, 27, (1 << 31) - 1),
                                               (1 << 22, 39, 1 << 30), (1 << 18, 62, 1 << 30),
                                               (1 << 26, 40, 1 << 30)])
def test_rescale_of_any_integer(bound, shift, top):
    random = np.random.default_rng(bound)
    current = random.integers(-bound, bound + 1, (1, 40, 8))
    scale = random.integers(0, top, 8).astype(np.int32)
    # Ties and what lies just beside them.
    current[0, 0], scale[0] = (1 << shift - 1) % bound + np.arange(8) - 4, 1
    g = Graph()
    high, low = (g.tensor([1, 40, 8], "float32") for _ in range(2))
    base = 1 << 10
    wide = bound >= 1 << 23
    number = Number(low, bound, high, base) if wide else Number(low, bound)
    model = g.finish([low, high] if wide else [low],
                     [rescale(g, number, scale, shift, "a test").low])
    digits = (current % base, current // base) if wide else (current,)
    got = run(opened(model), *(d.astype(np.float32) for d in digits))
    assert np.array_equal(got, interpret.rescale(current, scale, shift))


def test_neurons_at_their_ties():
    current = np.arange(-40, 40).repeat(8).reshape(8, 1, 80, 1)[np.random.default_rng(1)
                                                               .permutation(8)]
    for threshold in (1, 2, 7, 1 << 28):
        g = Graph()
        x = g.tensor([8, 1, 80, 1], "float32")
        model = g.finish([x], [lif(g, Number(x, 40), np.full(1, threshold), 8)])
        assert np.array_equal(run(opened(model), current.astype(np.float32)),
                              interpret.lif(current, threshold))


@pytest.mark.parametrize("thresholds", ([3], [1, 2, 3, 4], [5, 5, 9], [49, 144, 241, 336],
                                        [-7, 90, 91]))
def test_levels_at_every_current(thresholds):
    current = np.arange(-400, 400).reshape(1, 1, 800, 1)
    wanted = np.array(thresholds)[:, None]
    g = Graph()
    x = g.tensor([1, 1, 800, 1], "float32")
    model = g.finish([x], [levels(g, Number(x, 400), wanted)])
    assert np.array_equal(run(opened(model), current.astype(np.float32)),
                          interpret.levels_reached(current, wanted))


@pytest.mark.parametrize("name", MODELS)
def test_shipped_models(name):
    program, data = shipped_program(name)
    images = data.images[:20]
    expected = np.stack([interpret.run(program, image) for image in images])
    model = exact(program)
    it = opened(model)
    assert np.array_equal(np.stack([classified(it, image) for image in images]), expected)
    assert [op["op_name"] for op in it._get_ops_details()].count("DELEGATE") == 1  # all of it
    quick = opened(fast(program, data.images[100:116]))
    same = [classified(quick, x).argmax() == y.argmax()
            for x, y in zip(images, expected, strict=True)]
    assert np.mean(same) >= 0.9
    assert classified(opened(twin(program)), images[0]).shape == expected[0].shape


def test_token_choice_is_refused():
    build = Builder(np.random.default_rng(0), 4, (5, 4, 3))
    x = build.encode(8)
    index = build.choose(x, 5)
    program = build.finish(build.gather(x, index), 7)
    for lowered in (exact, twin, lambda p: fast(p, random_image(p, 0)[None])):
        with pytest.raises(UsageError, match="ChooseTokens -> v2 has no form in TFLite"):
            lowered(program)


def test_what_float_cannot_count_is_refused():
    build = Builder(np.random.default_rng(0), 4, (5, 4, 3))
    program = build.finish(build.encode(30), 7)
    heavy = program.ops[-1]
    assert isinstance(heavy, Classify)
    heavy = replace(heavy, bias=np.full(7, 1 << 25, np.int32))
    with pytest.raises(EdgesvitError, match="scores of the classes exactly") as caught:
        exact(replace(program, ops=(*program.ops[:-1], heavy)))
    assert caught.value.hint == "--runtime litert-fast"


def test_activations_are_planned_as_litert_does():
    """The runtime's own arena, read from where its tensors lie."""
    program, _ = shipped_program("spikformer")
    model = twin(program)
    it, constants = opened(model, BUILTIN), set()
    s = package.schema()
    graph = s.ModelT.InitFromObj(s.Model.GetRootAs(model, 0)).subgraphs[0]
    constants = {i for i, t in enumerate(graph.tensors) if t.buffer}
    views = [it.tensor(i)() for i in range(len(graph.tensors)) if i not in constants]
    begins = [v.__array_interface__["data"][0] for v in views]
    arena = max(b + v.nbytes for b, v in zip(begins, views, strict=True)) - min(begins)
    planned = activation_bytes(model)
    assert planned <= arena <= 1.5 * planned  # kernels of its own keep temporaries there


def delegated(model, threads=1):
    library = runtime.load_delegate(str(kernels.delegate(load("host"))), {"threads": threads})
    it = runtime.Interpreter(model_content=model, experimental_delegates=[library])
    it.allocate_tensors()
    return it


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize("make", (random_program, random_membrane_program))
def test_our_kernels_inside_tflite(make, threads):
    for seed in range(6):
        program = make(seed)
        image = random_image(program, seed)
        program = replace(program, check=Check(image, interpret.run(program, image)))
        it = delegated(kernels.one_node(program), threads)
        for given in (image, random_image(program, seed + 1000)):
            assert np.array_equal(run(it, given).reshape(-1), interpret.run(program, given))


@pytest.mark.parametrize("spoil", [lambda data: data[:-1] + bytes([data[-1] ^ 1]),
                                   lambda data: data[:40]], ids=("changed", "cut"))
def test_the_delegate_refuses_a_damaged_program(spoil, monkeypatch, capfd):
    build = Builder(np.random.default_rng(0), 4, (5, 4, 3))
    program = build.finish(build.encode(8), 7)
    good = kernels.file.to_bytes(program)
    monkeypatch.setattr(kernels.file, "to_bytes", lambda program: spoil(good))
    with pytest.raises((RuntimeError, ValueError)) as caught:
        delegated(kernels.one_node(program))
    assert "edgesvit.program" in str(caught.value) + capfd.readouterr().err


def test_the_delegate_refuses_tensors_of_another_size(monkeypatch):
    build = Builder(np.random.default_rng(0), 4, (5, 4, 3))
    program = build.finish(build.encode(8), 7)
    stored = kernels.file.to_bytes(program)
    larger = replace(program, values=(replace(program.values[0], shape=(6, 4, 3)),
                                      *program.values[1:]))
    monkeypatch.setattr(kernels.file, "to_bytes", lambda program: stored)
    with pytest.raises(RuntimeError, match="do not fit the program"):
        delegated(kernels.one_node(larger))


def test_without_the_delegate_it_is_one_line(tmp_path):
    program, data = shipped_program("spikformer")
    model = tmp_path / "kernels.tflite"
    model.write_bytes(kernels.one_node(program))
    done = ran([sys.executable, shipped("firmware") / "litert" / "run.py", model],
               data.images[:1], tmp_path)
    assert done.returncode == 1 and "edgesvit.program" in done.stderr.splitlines()[-1]


def test_int4_layers_run_and_are_marked():
    """Half the bytes where the weights fit; the old runtime gives NaN and must know."""
    build = Builder(np.random.default_rng(3), 2, (4, 4, 2))
    x = build.conv(build.encode(32), 64)
    program = build.finish(x, 5)
    op = program.ops[1]
    few = replace(op, weight=np.clip(op.weight, -8, 7), weight_bits=4)
    narrow = replace(program, ops=(program.ops[0], few, program.ops[2]))
    images = np.stack([random_image(program, seed) for seed in range(5)])
    wide = replace(narrow, ops=(program.ops[0], replace(few, weight_bits=8), program.ops[2]))
    small, large = fast(narrow, images), fast(wide, images)
    assert b"edgesvit-int4" in small and b"edgesvit-int4" not in large
    for image in images:
        assert np.array_equal(classified(opened(small), image), classified(opened(large), image))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    program, data = shipped_program("spikformer")
    path = tmp_path_factory.mktemp("litert") / "program.esv"
    write(program, path)
    return litert.lower(path, load("host"), "exact"), data.images[:3], program


def ran(argv, images, folder):
    (folder / "images.bin").write_bytes(images.tobytes())
    return subprocess.run([*map(str, argv), str(folder / "images.bin")], capture_output=True,
                          text=True, timeout=60)


def runners(artifact, model):
    """Command lines of both runners up to the images."""
    return [[artifact.executable, artifact.files[1], model],
            [sys.executable, shipped("firmware") / "litert" / "run.py", model]]


def test_both_runners_print_the_same_logits(artifact, tmp_path):
    lowered, images, program = artifact
    for argv in runners(lowered, lowered.files[0]):
        done = ran(argv, images, tmp_path)
        lines = [line for line in done.stdout.splitlines() if line.startswith("image")]
        logits = [[int(x) for x in line.partition("logits=")[2].split(",")] for line in lines]
        assert np.array_equal(logits, [interpret.run(program, image) for image in images])
        assert done.stdout.splitlines()[-1] == "done images=3"


@pytest.mark.parametrize("damage, said", [
    (lambda data: data[:1000], "truncated"),
    (lambda data: data[:500] + b"\xff" + data[501:], "checksum differs"),
    (lambda data: b"not a model at all", "is no .tflite file"),
    (lambda data: data[:4] + b"TFL9" + data[8:-4] + struct.pack("<I", zlib.crc32(
        data[:4] + b"TFL9" + data[8:-8])), "is no .tflite file"),
])
def test_damaged_files_are_one_line(artifact, tmp_path, damage, said):
    lowered, images, _ = artifact
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(damage(lowered.files[0].read_bytes()))
    for argv in runners(lowered, broken):
        done = ran(argv, images, tmp_path)
        assert done.returncode == 1 and said in done.stderr.splitlines()[-1]


def test_another_library_is_refused(artifact, tmp_path):
    lowered, images, _ = artifact
    done = ran([lowered.executable, "libm.so.6", lowered.files[0]], images, tmp_path)
    assert done.returncode == 1 and "another version of LiteRT" in done.stderr.splitlines()[-1]


def test_a_wrong_or_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(package, "version", lambda name: "1.0.0")
    with pytest.raises(EdgesvitError, match="needs ai-edge-litert 2.3.0, found 1.0.0") as caught:
        package.need_release()
    assert caught.value.hint == "pip install ai-edge-litert==2.3.0"

    def missing(name):
        raise package.PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", missing)
    with pytest.raises(EdgesvitError, match="which is not installed") as caught:
        package.need_release()
    assert caught.value.hint == "pip install 'edgesvit[litert]'"
