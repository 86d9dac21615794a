"""The kernels of Cortex-M4, M7 and M55 at the edges of what a program may hold: see programs.py."""

import dataclasses

import numpy as np
import pytest

from edgesvit import targets
from edgesvit.boards.qemu_mcu import emulated_mcu
from edgesvit.lower.firmware import build_firmware
from edgesvit.measure.protocol import SerialSession
from edgesvit.program import interpret
from edgesvit.program.ops import Kind, Program, Value
from edgesvit.program.validate import int16_certificate
from tests.fakes.serial_boards import needs, write_program
from tests.program.programs import Builder

pytestmark = pytest.mark.emulated
BOARDS = ["qemu-mps2-an385", "qemu-mps2-an386", "qemu-mps2-an500", "qemu-mps3-an547"]
FAR = 2**29 - 1  # the largest threshold


def images(program: Program) -> list[np.ndarray]:
    """Black, white, every other pixel, and noise."""
    shape = program.input.shape
    rows, columns = np.indices(shape[:2])
    chess = np.repeat(((rows + columns) % 2 * 255)[..., None], shape[2], 2)
    noise = np.random.default_rng(5).integers(0, 256, shape)
    return [x.astype(np.uint8) for x in (np.zeros(shape), np.full(shape, 255), chess, noise)]


def check(name: str, program: Program, folder, full: bool = False) -> None:
    """Logits of all images are the interpreter's; `full`: the board has no memory to unpack in."""
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    target, (path, arena) = targets.load(name), write_program(program, folder)
    if full:
        region = target.region_for("arena")
        used = build_firmware(target, path, arena).regions[region.name]
        arena += (region.bytes - used - 64) // 16 * 16
    with emulated_mcu(target, build_firmware(target, path, arena).elf) as port:
        session = SerialSession(port)
        session.hello()
        assert (session.memory()["unpacked"] == 0) == full
        for image in images(program):
            np.testing.assert_array_equal(session.infer(image).logits,
                                          interpret.run(program, image))


def last(b: Builder, **changes) -> None:
    """Replace fields of the operator that was added last."""
    b.ops[-1] = dataclasses.replace(b.ops[-1], **changes)


def joined(b: Builder, values: list[Value], classes: int = 5) -> Program:
    """All through a layer each, whose neurons mind the order of steps, into one classifier."""
    total = None
    for value in values:
        seen = b.conv(value, 8)
        total = b.add(total, seen) if total else seen
    return b.finish(total, classes)


def edges(b: Builder, channels: int, usual: int) -> np.ndarray:
    """Thresholds (channels): a third far away or at 0, the others around `usual`."""
    choice = b.random.choice([-FAR, -usual, -1, 0, 1, usual, FAR], channels)
    near = b.random.integers(1, usual + 1, channels)
    return np.where(b.random.random(channels) < 0.34, choice, near).astype(np.int32)


def first_convolutions(steps: int, stride: int, kernel: int, inputs: int) -> Program:
    """Of one image: every tail of channels, the largest weights, padding of 0 and 255."""
    b = Builder(np.random.default_rng(steps), steps, (11, 8, inputs))
    seen = []
    for i, channels in enumerate((1, 2, 3, 7, 16, 24, 33, 40)):
        seen.append(b.encode(channels, kernel, stride, kernel // 2, pool=(0, 1) if i else (3, 1)))
        op = b.ops[-1]
        low, high = -(1 << op.weight_bits - 1), (1 << op.weight_bits - 1) - 1
        if i % 2:
            sign = b.random.choice([low, high], channels).astype(np.int8)
            last(b, weight=np.broadcast_to(sign, op.weight.shape).copy())
        last(b, threshold=edges(b, channels, abs(low) * 255 * len(op.weight) // 4),
             pad_pixel=np.full(inputs, 255 * (i % 3 == 1), np.uint8))
    return joined(b, seen)


# A window larger than what small cores gather (11 x 11 of 2) takes the way of every processor.
@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("case", [(1, 1, 3, 3), (2, 2, 3, 3), (4, 1, 5, 1), (8, 2, 7, 3),
                                  (3, 1, 11, 2)], ids=lambda c: "T{}-s{}-k{}-c{}".format(*c))
def test_first_convolutions(name, case, tmp_path):
    check(name, first_convolutions(*case), tmp_path)


@pytest.mark.parametrize("name", BOARDS)
def test_rescaling_and_neurons_on_membranes(name, tmp_path):
    """Shifts of both halves of a product and scales to the largest, then thresholds at the ends."""
    b, seen = Builder(np.random.default_rng(3), 5, (6, 5, 3)), []
    shifts = (1, 2, 15, 16, 31, 32, 33, 47, 62)
    for shift, channels in zip(shifts, (1, 3, 4, 7, 8, 9, 16, 21, 40), strict=True):
        membrane = b.encode(channels, gives=(Kind.MEMBRANE, (100, 32767)[shift % 2]))
        scale = b.random.integers(0, min(1 << shift, 2**31), channels)
        scale[b.random.random(channels) < 0.2] = 2**31 - 1
        last(b, shift=shift, scale=scale.astype(np.int32))
        seen.append(b.fire(membrane))
        ends = [-FAR, -32769, -32768, -1, 0, 1, 32767, 32768, FAR]
        choice = b.random.choice([*ends, *b.random.integers(1, 9000, 20)], channels)
        last(b, threshold=choice.astype(np.int32))
    check(name, joined(b, seen), tmp_path)


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("shifts", [(33, 1, 31, 17), (32, 34, 24, 2, 40)],
                         ids=lambda s: "-".join(map(str, s)))
def test_rescaled_to_the_last_bit(name, shifts, tmp_path):
    """Membranes of several shifts on one stream, all of which the scores sum without a shift."""
    b, stream = Builder(np.random.default_rng(shifts[0]), 1, (5, 4, 3)), None
    for shift in shifts:
        stream = b.encode(9, gives=(Kind.MEMBRANE, 3000), stream=stream)
        usual = min(2.0**shift / 40, 2.0**31 - 1)
        last(b, shift=shift, scale=b.random.integers(0, int(usual) + 2, 9).astype(np.int32))
    program = b.finish(stream, 5)
    assert program.ops[-1].shift == 0
    check(name, program, tmp_path)


def packed_layers(steps: int, source: int) -> Program:
    """Layers of 2 to 7 bits with every tail of channels, some of the largest weights alone."""
    b = Builder(np.random.default_rng(steps), steps, (4, 5, 2))
    x, seen = b.encode(source), []
    for bits, channels in ((4, 16), (4, 24), (4, 33), (2, 16), (3, 20), (5, 16), (6, 40), (7, 9)):
        seen.append(b.conv(x, channels, 3, pad=1))
        op, low, high = b.ops[-1], -(1 << bits - 1), (1 << bits - 1) - 1
        weight = b.random.integers(low, high + 1, op.weight.shape)
        sign = b.random.choice([low, high], channels)
        weight = np.where(b.random.random(channels) < 0.5, sign, weight).astype(np.int8)
        threshold = np.clip(edges(b, channels, high * len(weight) // 4), -32767, 32767)
        last(b, weight=weight, weight_bits=bits, threshold=threshold,
             certified=int16_certificate(weight, op.bias, threshold, 1))
    return joined(b, seen)


# Rows are packed where they lie, as on a board whose memory the arena fills, or unpacked at boot.
@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize(("steps", "source", "full"), [(4, 40, True), (1, 17, True), (2, 33, False),
                                                       (6, 40, False)])
def test_weights_of_few_bits(name, steps, source, full, tmp_path):
    check(name, packed_layers(steps, source), tmp_path, full)


@pytest.mark.parametrize("name", BOARDS)
def test_pooling_of_any_number_of_channels(name, tmp_path):
    """Windows of 2 x 2, 3 x 3 and others, over words of 4 and 16 channels and their rests."""
    b, seen = Builder(np.random.default_rng(7), 3, (9, 9, 1)), []
    for kernel, channels in ((3, 1), (3, 3), (3, 5), (3, 16), (2, 17), (2, 4), (2, 24), (5, 33)):
        seen.append(b.pool(b.encode(channels), kernel, 2, kernel // 2 if kernel > 2 else 1))
    check(name, joined(b, seen), tmp_path)
