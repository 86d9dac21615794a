import numpy as np
import pytest

from edgesvit.program.packing import LANES, pack, packed_bytes, unpack


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("channels", [1, 10, 16, 17, 48])
def test_round_trip_in_exactly_b_bits(bits, channels):
    top = 1 << (bits - 1)
    weight = np.random.default_rng(bits).integers(-top, top, (7, channels)).astype(np.int8)
    weight[0], weight[1] = -top, top - 1
    data = np.frombuffer(pack(weight, bits), np.uint8)
    assert len(data) == packed_bytes(7, channels, bits)
    if channels % LANES == 0 or bits == 8:
        assert len(data) * 8 == weight.size * bits
    assert np.array_equal(unpack(data, 7, channels, bits), weight)


def test_a_row_of_8_bits_is_its_bytes_and_tiles_come_one_after_the_other():
    weight = np.arange(2 * 20, dtype=np.int8).reshape(2, 20)
    assert pack(weight, 8) == weight[:, :16].tobytes() + weight[:, 16:].tobytes()


def test_masks_bring_four_channels_into_a_word():
    """Where each channel of a row is, as kernels that add packed rows rely on it."""
    codes = np.arange(16)
    four = np.frombuffer(pack((codes - 8)[None].astype(np.int8), 4), "<u4")
    for half, word in enumerate(four):
        low, high = (np.frombuffer(np.uint32(word >> s & 0x0F0F0F0F).tobytes(), np.uint8)
                     for s in (0, 4))
        assert [*low, *high] == list(range(8 * half, 8 * half + 8))
    two = np.frombuffer(pack((codes // 4 - 2)[None].astype(np.int8), 2), "<u4")[0]
    assert [int(two >> s & 0x03030303) for s in (0, 2, 4, 6)] == [0x01010101 * i for i in range(4)]
    three = pack((codes // 4 - 2 + 4 * (codes == 9) - 2)[None].astype(np.int8), 3)
    assert len(three) == 6 and three[4:] == (1 << 9).to_bytes(2, "little")
