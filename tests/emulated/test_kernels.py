"""The Linux runner's kernels on several Arm processors: every variant, any number of threads."""

import dataclasses
import os
import shutil
import subprocess

import numpy as np
import pytest

from edgesvit.boards.runner import plugin_flags
from edgesvit.lower.native import linux_runner
from edgesvit.measure.run import read_runner
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run as interpret
from edgesvit.program.interpret import trace
from edgesvit.program.ops import Kind, Value
from edgesvit.targets import load
from tests.program.programs import (
    Builder,
    beyond_int16,
    random_image,
    random_membrane_program,
    random_program,
)

ROADS = ("neon+lists", "neon+dense", "neon+masks")
# Checks are calls: inline, and with line numbers, the kernels compile three times as long.
SANITIZE = ("-O1", "-w", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer", "--param=asan-instrumentation-with-call-threshold=0")


@pytest.fixture(scope="module")
def runner():
    return built()


def built(*flags):
    for program in ("qemu-aarch64", "aarch64-linux-gnu-gcc"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    return linux_runner(load("qemu-user-a76"), *flags)


def run(folder, runner, cpu, program, images, *options):
    file, data = folder / "p.esv", folder / "images.bin"
    file.write_bytes(to_bytes(program))
    data.write_bytes(images.tobytes())
    # The sanitized runner alone needs libraries; its leak checker does not run under emulation.
    return subprocess.run(["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu, runner,
                           *options, file, data], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})


# Cortex-A53 and A72 have no dot product: an instruction beyond Armv8.0 would be illegal there.
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76", "max"])
@pytest.mark.parametrize(("kernels", "threads"), [("neon", 1), ("neon", 3), ("neon+lists", 1),
                                                  ("neon+dense", 1), ("neon+dense", 3),
                                                  ("neon+masks", 1), ("neon+masks", 3),
                                                  ("scalar", 2)])
def test_logits_are_the_interpreters(tmp_path, runner, cpu, kernels, threads):
    for make, seed in ((random_program, 3), (random_program, 8), (random_membrane_program, 2)):
        program = make(seed)
        images = np.stack([random_image(program, i) for i in range(2)])
        said = run(tmp_path, runner, cpu, program, images, "--kernels", kernels, "--threads",
                   str(threads))
        board = read_runner(said.stdout.splitlines(), 2, cpu)
        assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]
        named = board.environment["kernels"], board.environment["threads"]
        assert named == (kernels.partition("+")[0], threads)


def masked(steps):
    """Layers that have masks: windows of a word or more, tiles of every width, all that follows."""
    b = Builder(np.random.default_rng(steps), steps, (9, 11, 2))
    x = b.conv(b.encode(24), 40, 3, pad=1)
    x = b.conv(b.conv(x, 80, 3, 2, 1, pool=(3, 2)), 144)
    x = b.conv(x, 72, 2, 1, 1, gives=(Kind.MEMBRANE, 900))
    x = b.conv(b.conv(b.fire(x), 16, 3, 2), 33, 3, pad=2, gives=(Kind.LEVELS, 5))
    return b.finish(b.conv(x, 8), 3)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_masks(tmp_path, runner, steps):
    program = masked(steps)
    same_by_all_roads(tmp_path, runner, "cortex-a72", program, "1")
    same_by_all_roads(tmp_path, runner, "cortex-a76", program, "3")
    images = random_image(program, 0)[None]
    lists, masks = (taken(tmp_path, runner, "cortex-a72", program, images, name)[0]
                    for name in ("neon+lists", "neon+masks"))
    assert masks < 0.9 * lists


@pytest.mark.timeout(1800)  # instrumented, the kernels compile for minutes, or ten when busy
def test_no_bad_access_and_nothing_undefined(tmp_path):
    runner = built(SANITIZE)
    programs = [random_program(0), random_program(8), random_membrane_program(2), masked(4),
                masked(3)]
    for program in programs:
        images = np.stack([random_image(program, i) for i in range(2)])
        expected = [interpret(program, i).tolist() for i in images]
        for cpu, kernels, threads in (("cortex-a72", "neon+dense", "1"),
                                      ("cortex-a72", "neon+lists", "3"),
                                      ("cortex-a72", "neon+masks", "2"),
                                      ("cortex-a76", "neon+dense", "3")):
            said = run(tmp_path, runner, cpu, program, images, "--kernels", kernels, "--threads",
                       threads)
            assert said.returncode == 0 and not said.stderr, said.stderr[-3000:]
            board = read_runner(said.stdout.splitlines(), 2, cpu)
            assert board.logits.tolist() == expected


@pytest.mark.parametrize("options", [("--kernels", "avx2"), ("--kernels", "neon+fast"),
                                     ("--speed", "9")])
def test_a_wrong_option_is_told_in_one_line(tmp_path, runner, options):
    program = random_program(3)
    said = run(tmp_path, runner, "cortex-a72", program, random_image(program, 0), *options)
    assert said.returncode == 1 and len(said.stderr.splitlines()) == 1
    assert options[0].strip("-") in said.stderr or options[1] in said.stderr


def same_by_all_roads(folder, runner, cpu, program, threads):
    images = np.stack([random_image(program, i) for i in range(2)])
    expected = [interpret(program, i).tolist() for i in images]
    for road in ROADS:
        said = run(folder, runner, cpu, program, images, "--kernels", road, "--threads", threads)
        assert read_runner(said.stdout.splitlines(), 2, cpu).logits.tolist() == expected, road


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_overlapping_windows(tmp_path, runner, steps):
    def build(b: Builder) -> Value:
        x = b.conv(b.encode(40), 33, 3, pad=1)
        return b.conv(b.conv(x, 21, 3, 2, 1), 9, 3, pad=1, pool=(3, 2))

    builder = Builder(np.random.default_rng(steps), steps, (11, 9, 2))
    program = builder.finish(build(builder), 3)
    for cpu in ("cortex-a72", "cortex-a76"):
        same_by_all_roads(tmp_path, runner, cpu, program, "2")


# Products take 4, 8 or 16 channels at a time and 4 inputs; a signed byte holds no level of 255.
@pytest.mark.parametrize(("steps", "channels", "level"), [(1, (1, 5), 255), (2, (3, 12), 127),
                                                          (8, (17, 33), 4), (5, (20, 9), 128)])
def test_odd_channels_of_levels_and_spikes(tmp_path, runner, steps, channels, level):
    builder = Builder(np.random.default_rng(steps), steps, (6, 7, 3), events=level)
    first, second = channels
    x = builder.conv(builder.values[0], first, 3, 2, 1)
    x = builder.conv(x, second, gives=(Kind.LEVELS, 5))
    x = builder.conv(x, first, 2, 1, 1, gives=(Kind.MEMBRANE, 900))
    program = builder.finish(builder.conv(builder.fire(x), second, 3, 1, 1, pool=(2, 2)), 4)
    for cpu in ("cortex-a72", "cortex-a76"):
        same_by_all_roads(tmp_path, runner, cpu, program, "1")


def taken(folder, runner, cpu, program, images, kernels):
    """Instructions of each image."""
    counts = folder / "counts"
    flags = plugin_flags(["qemu-aarch64", "-cpu", cpu], runner, counts)
    file, data = folder / "p.esv", folder / "images.bin"
    file.write_bytes(to_bytes(program))
    data.write_bytes(images.tobytes())
    subprocess.run(["qemu-aarch64", "-cpu", cpu, *flags, runner, "--kernels", kernels, file, data],
                   check=True, capture_output=True, timeout=120)
    return np.array([int(line) for line in counts.read_text().split()])


# A look at the input decides: its cost is what the choice may add.
@pytest.mark.parametrize(("cpu", "channels"), [("cortex-a72", 128), ("cortex-a76", 256)])
def test_the_cheaper_road_is_taken(tmp_path, runner, cpu, channels):
    def dear(fires: float) -> np.ndarray:
        builder = Builder(np.random.default_rng(1), 1, (8, 8, channels), events=1)
        program = builder.finish(builder.conv(builder.values[0], channels // 2), 3)
        image = builder.random.random((1, 1, 8, 8, channels)) < fires
        return np.concatenate([taken(tmp_path, runner, cpu, program, image.astype(np.uint8), name)
                               for name in (*ROADS[:2], "neon")])

    for fires, cheaper in ((0.02, 0), (1.0, 1)):
        costs = dear(fires)
        assert costs[cheaper] < 0.9 * costs[1 - cheaper]
        assert abs(costs[2] - costs[cheaper]) < 3000


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_sums_beyond_int16(tmp_path, runner, steps):
    same_by_all_roads(tmp_path, runner, "cortex-a72", beyond_int16(steps), "1")


# Counts of up to 25, 100 and 196 tokens: rows are added four, two and one at a time.
@pytest.mark.parametrize(("side", "shift"), [(5, 4), (10, 2), (14, 1)])
def test_heads_of_64_channels(tmp_path, runner, side, shift):
    builder = Builder(np.random.default_rng(side), 3, (side, side, 1))
    out = builder.attend(builder.encode(12), 2, 64, 128)
    threshold = side << shift >> 1
    builder.ops[-1] = dataclasses.replace(builder.ops[-1], shift=shift, threshold=threshold)
    program = builder.finish(out, 3)
    images = np.stack([random_image(program, i) for i in range(2)])
    spikes = trace(program, images[0])[out.name]
    assert 0 < np.count_nonzero(spikes) < spikes.size
    said = run(tmp_path, runner, "cortex-a72", program, images)
    board = read_runner(said.stdout.splitlines(), 2, "cortex-a72")
    assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]


# On the stack with 16 or 32 columns, one or two words of keys, up to the most tokens of a byte.
@pytest.mark.parametrize(("side", "heads", "query", "value"), [
    (4, 8, 2, 6), (14, 3, 16, 32), (10, 1, 9, 17), (15, 2, 7, 1), (16, 2, 8, 16), (5, 5, 8, 13)])
def test_narrow_heads(tmp_path, runner, side, heads, query, value):
    builder = Builder(np.random.default_rng(side * heads), 3, (side, side, 1))
    out = builder.attend(builder.encode(12), heads, query, value)
    builder.ops[-1] = dataclasses.replace(builder.ops[-1], shift=1,
                                          threshold=side // 8 or 1)
    program = builder.finish(builder.conv(out, 16), 3)
    images = np.stack([random_image(program, i) for i in (1, 2)])
    spikes = np.stack([trace(program, image)[out.name] for image in images])
    assert 0 < np.count_nonzero(spikes) < spikes.size
    said = run(tmp_path, runner, "cortex-a72", program, images, "--threads", "2")
    board = read_runner(said.stdout.splitlines(), 2, "cortex-a72")
    assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]


# One token to 196, keys in parts of 1 to 8, 8 or 16 columns that end with the head or before; sums
# of 16 bits and of 32; heads too narrow for registers.
@pytest.mark.parametrize(("steps", "side", "heads", "query", "value", "level"), [
    (1, 1, 2, 9, 17, 255), (1, 7, 4, 9, 36, 4), (2, 5, 3, 13, 8, 9), (1, 14, 2, 17, 25, 10),
    (3, 4, 1, 8, 16, 15), (1, 3, 5, 1, 15, 4), (2, 5, 3, 4, 7, 5)])
def test_attention_of_levels(tmp_path, runner, steps, side, heads, query, value, level):
    builder = Builder(np.random.default_rng(side * heads), steps, (side, side, 3))
    out = builder.attend(builder.encode(12), heads, query, value, (Kind.LEVELS, level))
    usual = builder.ops[-1].level_thresholds[1:-1]
    builder.ops[-1] = dataclasses.replace(builder.ops[-1],
                                          level_thresholds=(-3, *usual, 2**29 - 1))
    program = builder.finish(out, 3)
    images = np.stack([random_image(program, i) for i in (1, 2)])
    assert len(np.unique([trace(program, image)[out.name] for image in images])) > 1
    for cpu in ("cortex-a53", "cortex-a76"):
        said = run(tmp_path, runner, cpu, program, images, "--threads", str(min(heads, 2)))
        board = read_runner(said.stdout.splitlines(), 2, cpu)
        assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]


# All levels are the largest, and so are counts and sums: just below and at a threshold of them.
@pytest.mark.parametrize(("side", "query", "value", "level"), [(1, 9, 17, 255), (2, 3, 8, 127),
                                                               (5, 7, 16, 1), (7, 5, 24, 5)])
def test_attention_of_the_largest_levels(tmp_path, runner, side, query, value, level):
    builder = Builder(np.random.default_rng(side), 1, (side, side, 1))
    out = builder.attend(builder.encode(12), 2, query, value, (Kind.LEVELS, level))
    builder.ops[1:4] = [dataclasses.replace(op, threshold=np.full_like(op.threshold, -2**28),
                                            certified=np.zeros_like(op.certified))
                        for op in builder.ops[1:4]]
    current, done = side**2 * level**3 * query << 1, builder.finish(out, 3)
    for above in (0, 1):
        thresholds = tuple(current + above + d for d in range(0, -level, -1))
        attention = dataclasses.replace(done.ops[4], level_thresholds=thresholds)
        program = dataclasses.replace(done, ops=(*done.ops[:4], attention, *done.ops[5:]))
        image = random_image(program, 0)
        assert (trace(program, image)[out.name] == level - above).all()
        said = run(tmp_path, runner, "cortex-a72", program, image[None])
        board = read_runner(said.stdout.splitlines(), 1, "cortex-a72")
        assert board.logits[0].tolist() == interpret(program, image).tolist()


# Four tokens at a time where none of their windows crosses an edge, the last of an image from a
# copy of its end; levels of 15 fit int16, those of 40 and 255 with 49 taps do not.
@pytest.mark.parametrize(("kernel", "stride", "pad", "channels", "level"), [
    (7, 1, 3, 8, 4), (3, 1, 1, 20, 15), (3, 2, 0, 1, 9), (5, 1, 0, 33, 3), (1, 1, 0, 5, 127),
    (7, 2, 3, 16, 40), (3, 1, 1, 17, 255)])
def test_depthwise_convolution_of_levels(tmp_path, runner, kernel, stride, pad, channels, level):
    builder = Builder(np.random.default_rng(channels), 2, (9, 15, 2))
    x = builder.encode(channels, gives=(Kind.LEVELS, level))
    x = builder.depthwise(x, kernel, stride, pad, gives=(Kind.LEVELS, 6))
    # A layer on spikes or levels is what the runner sets work memory aside for.
    program = builder.finish(builder.conv(x, 40, 3, pad=1), 4)
    for cpu in ("cortex-a53", "cortex-a76"):
        same_by_all_roads(tmp_path, runner, cpu, program, "2")


@pytest.mark.parametrize("channels", [3, 15, 17, 24, 40, 56])
def test_pooling_of_any_number_of_channels(tmp_path, runner, channels):
    builder = Builder(np.random.default_rng(channels), 3, (9, 8, 1))
    x = builder.conv(builder.pool(builder.encode(channels)), channels)
    x = builder.conv(builder.pool(x, 2, 1, 0), channels)
    program = builder.finish(builder.conv(builder.pool(x, 5, 1, 2), 16), 3)
    images = np.stack([random_image(program, i) for i in range(2)])
    said = run(tmp_path, runner, "cortex-a72", program, images)
    board = read_runner(said.stdout.splitlines(), 2, "cortex-a72")
    assert board.logits.tolist() == [interpret(program, i).tolist() for i in images]
