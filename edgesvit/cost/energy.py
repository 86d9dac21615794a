"""Energy models of 45 nm arithmetic: the field's, and one that knows the width of the numbers.

Both count arithmetic only: no memory, no neurons, no clock. They are estimates; a meter measures.
"""

# Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9: pJ at 45 nm, 0.9 V.
FLOAT32_MAC_PJ = 4.6  # multiply 3.7, add 0.9
FLOAT32_ADD_PJ = 0.9
INT8_MULTIPLY_PJ = 0.2
INT16_ADD_PJ = 0.05
INT32_ADD_PJ = 0.1


def field_mj(macs: float, accumulates: float) -> float:
    """Millijoules as the spiking-transformer papers count them: float32 MACs and ACs.

    >>> round(field_mj(0.3473e9, 6.5175e9), 3)
    7.463
    """
    return (FLOAT32_MAC_PJ * macs + FLOAT32_ADD_PJ * accumulates) * 1e-9


def bit_aware_mj(macs: float, accumulates_int16: float, accumulates_int32: float) -> float:
    """Millijoules of what a spike program computes: 8-bit products, 16- and 32-bit sums."""
    return ((INT8_MULTIPLY_PJ + INT32_ADD_PJ) * macs + INT16_ADD_PJ * accumulates_int16
            + INT32_ADD_PJ * accumulates_int32) * 1e-9
