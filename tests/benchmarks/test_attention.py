"""One head of attention: ours and the dense products, against the definition."""

import ctypes

import pytest
from peers import attention, own
from peers.layers import Firing


@pytest.fixture(scope="module")
def library():
    return own.Host()._library


@pytest.mark.parametrize("program", range(len(attention.PROGRAMS)), ids=list(attention.PROGRAMS))
@pytest.mark.parametrize("shape", [(36, 64, 4), (20, 32, 3)])
@pytest.mark.parametrize("source", range(2), ids=own.SOURCES[:2])
def test_programs_equal_the_definition(library, program, shape, source):
    library.head_open(*map(ctypes.c_uint32, (*shape, 30, source)))
    library.head_run(ctypes.c_uint32(program))
    assert library.head_mismatches() == 0


@pytest.mark.emulated
@pytest.mark.parametrize("program", attention.PROGRAMS)
def test_counts_are_of_right_programs(program):
    assert attention.cost(program, Firing(20)).instructions > 0
