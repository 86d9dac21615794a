"""Bytes per region against budgets."""

import numpy as np
import pytest

from edgesvit import profiles, targets
from edgesvit.cost import memory
from edgesvit.errors import DoesNotFit
from edgesvit.program.file import to_bytes
from edgesvit.program.ops import Classify, Conv, SelfAttention
from edgesvit.program.packing import pack
from edgesvit.program.plan import plan
from tests.program.programs import Builder, random_membrane_program, random_program

TARGET = targets.load("qemu-netduinoplus2")
FIT = profiles.load("fit")


def used(**changed: int) -> dict[str, int]:
    return dict.fromkeys(memory.USES, 1000) | changed


def test_what_fits_has_no_shortfall():
    assert memory.shortfalls(used(), TARGET, FIT) == []


def test_uses_that_share_a_region_are_added():
    flash = TARGET.region_for("weights")
    assert TARGET.region_for("code") is flash
    assert memory.shortfalls(used(weights=flash.bytes - 1000), TARGET, FIT) == []
    [short] = memory.shortfalls(used(weights=flash.bytes - 999), TARGET, FIT)
    assert flash.name in short and "code + weights" in short


def test_a_profile_can_ask_for_less_than_the_board_has():
    tiny = profiles.load("tiny")
    assert memory.shortfalls(used(arena=tiny.arena_bytes), TARGET, tiny) == []
    [short] = memory.shortfalls(used(arena=tiny.arena_bytes + 1), TARGET, tiny)
    assert "arena" in short and "'tiny'" in short


def test_the_estimate_of_weights_and_arena_is_exact():
    program = random_program(5)
    data = to_bytes(program)
    estimate = memory.estimate(program, len(data), TARGET)
    assert estimate["weights"] == len(data)
    assert estimate["arena"] == plan(program).arena_bytes


def test_what_does_not_fit_names_its_biggest_parts():
    program = random_program(5)
    with pytest.raises(DoesNotFit, match="(?s)does not fit qemu-netduinoplus2: needs .*weights of"):
        memory.require_fit(program, used(weights=10**7), TARGET, FIT, "hint")


def test_the_table_has_three_columns_and_says_none_where_nobody_knows():
    rows = memory.table(TARGET, used(), {"code": 5}, {"code": 6})
    by_use = {row.use: row for row in rows}
    code, stack = by_use["code"], by_use["stack"]
    assert (code.estimated_bytes, code.linked_bytes, code.observed_bytes) == (1000, 5, 6)
    assert (stack.linked_bytes, stack.observed_bytes) == (None, None)


def test_unpacked_weights_have_a_row_where_a_board_says_so():
    rows = memory.table(TARGET, used(), {}, {"unpacked": 7})
    assert (rows[-1].region, rows[-1].use) == (TARGET.region_for("arena").name, "unpacked")
    assert (rows[-1].estimated_bytes, rows[-1].observed_bytes) == (None, 7)
    assert len(memory.table(TARGET, used(), {}, {"unpacked": 0})) == len(rows) - 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", [random_program, random_membrane_program])
def test_parameters_are_what_the_file_holds(make, seed):
    program = make(seed)
    held = sum(memory.parameter_bytes(op) for op in program.ops)
    # Beside them: the header, 16 bytes a value, 48 an operator, padding, proofs and names.
    beside = len(to_bytes(program)) - held
    assert 0 < beside < 64 + 80 * len(program.values) + 160 * len(program.ops)
    for op in program.ops:
        weights = isinstance(op, Conv | Classify)
        others = memory.parameters(op) - (op.weight.size if weights else 0)
        packed = len(pack(op.weight, op.weight_bits)) if weights else 0
        assert memory.parameter_bytes(op) == packed + 4 * others
        if isinstance(op, Conv):
            after = op.scale if op.scale is not None else op.threshold  # D of them for levels
            assert others == op.channels + after.size
        if isinstance(op, SelfAttention):
            assert others == len(op.level_thresholds)


def test_depthwise_weights_can_be_the_largest():
    build = Builder(np.random.default_rng(0), 1, (3, 3, 1))
    inner = build.depthwise(build.encode(8, kernel=1, pad=0), 15, 1, 7)
    program = build.finish(inner, 2)
    kib = round(memory.weight_bytes(program.ops[1]) / 1024, 1)
    assert memory.contributors(program, 1) == [f"{f'weights of {inner.name}':<36} {kib:>6} KiB"]
