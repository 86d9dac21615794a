"""What the protocol adds to a firmware: each part that is left out makes it smaller."""

import pytest

from edgesvit import targets
from tests.fakes.serial_boards import needs, small_program, write_program


@pytest.mark.emulated
def test_each_part_has_its_price(tmp_path):
    needs("arm-none-eabi-gcc")
    from firmware_bytes import rows

    target = targets.load("qemu-mps2-an386")
    bare, own, whole = rows(target, write_program(small_program(), tmp_path)[0])
    assert bare[2] < own[2] < whole[2] < bare[2] + 16384
    assert bare[3] < own[3] <= whole[3] < bare[3] + 1024
