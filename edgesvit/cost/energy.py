"""Energy models of 45 nm arithmetic: the field's, and one that knows the width of the numbers.

Both count arithmetic only: no memory, no neurons, no clock. What reading the constants of a network
costs is a figure of its own, which narrow weights make smaller and few spikes do not. All are
estimates; a meter measures.
"""

# Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9: pJ at 45 nm, 0.9 V.
FLOAT32_MAC_PJ = 4.6  # multiply 3.7, add 0.9
FLOAT32_ADD_PJ = 0.9
INT8_MULTIPLY_PJ = 0.2
INT32_MULTIPLY_PJ = 3.1
INT16_ADD_PJ = 0.05
INT32_ADD_PJ = 0.1
# Han et al., "EIE: Efficient Inference Engine", ISCA 2016, table I: 32 bits from DRAM at 45 nm.
DRAM_WORD_PJ = 640.0


def field_mj(macs: float, accumulates: float) -> float:
    """Millijoules as the spiking-transformer papers count them: float32 MACs and ACs.

    >>> round(field_mj(0.3473e9, 6.5175e9), 3)
    7.463
    """
    return (FLOAT32_MAC_PJ * macs + FLOAT32_ADD_PJ * accumulates) * 1e-9


def bit_aware_mj(macs: float, accumulates_int16: float, accumulates_int32: float,
                 operand_bits: int = 8, rescales: float = 0.0) -> float:
    """Millijoules of what a spike program computes: integer products, 16- and 32-bit sums.

    MACs multiply int8 weights by operands of `operand_bits`. A multiplier grows with the product
    of both widths: the table's 8 x 8 and 32 x 32 differ by 15.5, so 8 x 16 is taken as twice 8 x 8.
    `rescales` are products of int32 and int32.
    """
    product = INT8_MULTIPLY_PJ * operand_bits / 8
    return ((product + INT32_ADD_PJ) * macs + INT16_ADD_PJ * accumulates_int16
            + INT32_ADD_PJ * accumulates_int32 + INT32_MULTIPLY_PJ * rescales) * 1e-9


def traffic_mj(size: int) -> float:
    """Millijoules of reading `size` bytes of constants once from DRAM.

    >>> round(traffic_mj(1_000_000), 3)
    0.16
    """
    return DRAM_WORD_PJ * size / 4 * 1e-9
