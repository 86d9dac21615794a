"""The Linux runner's lines."""

import pytest

from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.measure.run import read_runner

LINES = [
    "program crc=00c0ffee steps=4 input=64 classes=2 arena=512 work=4096 threads=2 kernels=neon",
    "check pass",
    "image index=0 ns=1500 instructions=77 logits=1,-2",
    "image index=1 ns=2500 instructions=78 logits=3,4",
    "memory file=4096 arena=512 arena_used=500 code=9000 data=700 stack=8192 "
    "peak_rss=81920",
    "done images=2",
]


def test_a_complete_run():
    run = read_runner(LINES, 2, "board")
    assert run.logits.tolist() == [[1, -2], [3, 4]]
    assert run.instructions == [77, 78] and run.latency_us == [1.5, 2.5]
    assert run.observed_bytes == {"code": 9000, "weights": 4096, "arena": 500, "stack": 8192,
                                  "io": 700}
    assert run.environment == {"peak_rss_bytes": 81920, "kernels": "neon", "threads": 2,
                               "work_bytes": 4096}


def test_no_counter_is_none_not_minus_one():
    lines = [line.replace("instructions=78", "instructions=-1") for line in LINES]
    assert read_runner(lines, 2, "board").instructions is None


@pytest.mark.parametrize("kept", range(6))
def test_output_that_is_cut_short_is_unreachable(kept):
    with pytest.raises(Unreachable, match="ends after"):
        read_runner(LINES[:kept], 2, "board")


def test_a_line_that_makes_no_sense_is_told():
    lines = [line.replace("logits=3,4", "logits=3,x") for line in LINES]
    with pytest.raises(EdgesvitError, match="cannot read"):
        read_runner(lines, 2, "board")


def test_logits_that_are_no_integers_stay_what_they_are():
    lines = [line.replace("logits=3,4", "logits=3.25,-4e-2") for line in LINES]
    assert read_runner(lines, 2, "board").logits.tolist() == [[1, -2], [3.25, -0.04]]
