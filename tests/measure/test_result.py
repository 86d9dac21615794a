"""A result that differs is no result."""

import numpy as np
import pytest

from edgesvit.errors import ResultDiffers
from edgesvit.measure.result import compare, require_equal, samples


def test_equal_logits_pass():
    logits = np.arange(6, dtype=np.int32).reshape(3, 2)
    require_equal(logits, logits.copy(), "board")


def test_one_wrong_logit_is_named_with_its_image():
    logits = np.arange(6, dtype=np.int32).reshape(3, 2)
    wrong = logits.copy()
    wrong[1, 1] += 1
    with pytest.raises(ResultDiffers, match=r"logits of 1 of 3 .* image 1: \[2, 4\]") as e:
        require_equal(wrong, logits, "board")
    assert e.value.exit_code == 5


def test_samples_keep_everything():
    summary = samples([3.0, 1.0, 2.0])
    assert (summary.median, summary.minimum, summary.maximum) == (2, 1, 3)
    assert summary.all == [3, 1, 2]
    assert samples(None) is None


def test_logits_that_differ_are_measured():
    host = np.array([[0, 10], [20, -5]], np.int32)
    assert compare(host, host) == {"logits_equal": 2, "classes_equal": 2, "largest_difference": 0}
    board = np.array([[0, 10], [20, 25]], np.float64)
    assert compare(board, host) == {"logits_equal": 1, "classes_equal": 1,
                                    "largest_difference": 1.5}
