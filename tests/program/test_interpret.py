"""The definition itself, against results worked out by hand and against other formulas."""

import numpy as np
import pytest

from edgesvit.program import interpret
from edgesvit.program.ops import (
    Classify,
    EncodeConv,
    MaxPool,
    SelfAttention,
    SpikeConv,
    TokenAttention,
)


def neuron(currents: list[int], threshold: int) -> list[int]:
    spikes = interpret.lif(np.array(currents, np.int64)[:, None], threshold)
    return spikes[:, 0].astype(int).tolist()


def test_a_tie_fires():
    assert neuron([20], 10) == [1]
    assert neuron([19], 10) == [0]  # floor(19 / 2) = 9


def test_halving_rounds_towards_minus_infinity():
    # v: -1 >> 1 = -1, then (-1 + 0) >> 1 = -1: rounding to zero would give 0 and fire
    assert neuron([-1, 0], 0) == [0, 0]


def test_a_spike_resets_the_membrane_to_zero():
    # without the reset the second step would reach (20 + 20) >> 1 = 20
    assert neuron([40, 30], 16) == [1, 0]
    assert neuron([40, 32], 16) == [1, 1]


def test_the_membrane_is_carried_between_steps():
    assert neuron([30, 30], 20) == [0, 1]  # 15, then (15 + 30) >> 1 = 22


def codes(op: SpikeConv, levels: np.ndarray) -> np.ndarray:
    return interpret.encode(interpret.lif(interpret.spike_conv(op, levels), op.threshold))


def test_codes_hold_step_t_in_bit_t():
    spikes = np.array([[1, 0], [0, 0], [1, 1]], bool)
    codes = interpret.encode(spikes)
    assert codes.tolist() == [0b101, 0b100]
    assert (interpret.decode(codes, 3) == spikes).all()


def test_encode_conv_reads_the_pad_pixel_outside_the_image():
    op = EncodeConv("a", "b", 3, 1, 1, np.ones((9, 1), np.int8), np.zeros(1, np.int32),
                    np.array([1], np.int32), pad_pixel=np.array([7], np.uint8))
    pixels = np.array([[[10]]], np.uint8)
    taps = interpret.patches(pixels, op, op.pad_pixel)
    assert taps.reshape(-1).tolist() == [7, 7, 7, 7, 10, 7, 7, 7, 7]


def test_convolution_orders_taps_before_channels():
    weight = np.zeros((2 * 2 * 2, 1), np.int8)
    weight[(1 * 2 + 0) * 2 + 1] = 5  # tap (y 1, x 0), channel 1
    op = SpikeConv("a", "b", 2, 1, 0, weight, np.zeros(1, np.int32), np.array([1], np.int32),
                   certified=np.ones(1, bool))
    levels = np.zeros((1, 2, 2, 2), np.int64)
    levels[0, 1, 0, 1] = 1
    assert interpret.spike_conv(op, levels).item() == 5
    levels[0, 1, 0] = (1, 0)
    assert interpret.spike_conv(op, levels).item() == 0


def test_max_pool_keeps_every_step_apart():
    codes = np.array([[[0b01], [0b10]], [[0], [0b100]]], np.uint8)
    assert interpret.max_pool(MaxPool("a", "b", 3, 2, 1), codes).item() == 0b111


@pytest.mark.parametrize("seed", range(4))
def test_attention_in_linear_order_gives_the_same_spikes(seed):
    random = np.random.default_rng(seed)
    steps, height, width, heads, query, value = 3, 2, 4, 2, 3, 5
    q, k = random.integers(0, 2, (2, steps, height, width, heads * query))
    v = random.integers(0, 2, (steps, height, width, heads * value))
    op = SelfAttention("q", "k", "v", "o", heads, 3, 32)
    expected = np.zeros((steps, height * width, heads * value), np.int64)
    for t in range(steps):
        for h in range(heads):
            flat_q, flat_k = (x[t].reshape(-1, heads, query)[:, h] for x in (q, k))
            flat_v = v[t].reshape(-1, heads, value)[:, h]
            expected[t, :, h * value:(h + 1) * value] = flat_q @ (flat_k.T @ flat_v)
    spikes = interpret.lif(expected << 3, 32).reshape(steps, height, width, -1)
    assert (interpret.self_attention(op, q, k, v) == interpret.encode(spikes)).all()


def test_attention_ties_are_those_of_exact_arithmetic():
    # one coincidence a step, scale 1/8, threshold 1/2: v = 1/16, 3/32 ... never fires; eight fire
    op = SelfAttention("q", "k", "v", "o", 1, 2, 4 << 2)
    one = np.ones((2, 1, 1, 1), np.int64)
    assert interpret.self_attention(op, one, one, one).item() == 0
    eight = np.ones((2, 1, 8, 1), np.int64)
    assert (interpret.self_attention(op, eight, eight, eight) == 0b11).all()


def test_classify_sums_over_steps_and_tokens():
    op = Classify("a", "b", np.array([[2, -1], [1, 3]], np.int8), np.array([10, 0], np.int32))
    levels = np.ones((3, 2, 2, 2), np.int64)
    assert interpret.classify(op, levels).reshape(-1).tolist() == [10 + 12 * 3, 12 * 2]


def test_pooling_before_the_neuron_takes_the_largest_current():
    # two steps of two positions: each fires once if pooled after the neuron, never carries over
    weight = np.array([[20]], np.int8)

    def conv(pool: int) -> SpikeConv:
        return SpikeConv("a", "b", 1, 1, 0, weight, np.zeros(1, np.int32),
                         np.array([12], np.int32), certified=np.ones(1, bool), pool=pool,
                         pool_stride=2)

    levels = np.array([[[[1], [0]]], [[[0], [1]]]])  # [T, H, W, C]: left fires, then right
    apart = codes(conv(0), levels)
    assert apart.reshape(-1).tolist() == [0, 0]  # 10, then 5 and 10: nobody reaches 12
    pooled = codes(conv(3), levels)
    assert pooled.reshape(-1).tolist() == [0b10]  # 10, then (10 + 20) >> 1 = 15


def test_pooling_ignores_positions_outside_even_for_negative_currents():
    op = SpikeConv("a", "b", 1, 1, 0, np.array([[-4]], np.int8), np.zeros(1, np.int32),
                   np.array([-2], np.int32), certified=np.ones(1, bool), pool=3, pool_stride=1)
    current = interpret.pool_current(op, np.full((1, 2, 2, 1), -4))
    assert (current == -4).all()


def test_token_attention_gates_keys_by_the_query_count_of_each_head():
    op = TokenAttention("q", "k", "o", 2, 1, 1 << 1)  # fires at the first step from 2 spikes on
    q = np.array([[[[1, 1, 1, 0]]]])  # [T, H, W, C]: two spikes in head 0, one in head 1
    k = np.array([[[[0, 1, 1, 1]]]])
    assert interpret.token_attention(op, q, k).reshape(-1).tolist() == [0, 1, 0, 0]
