"""Tables."""

import doctest

import edgesvit.report.table as module


def test_examples_in_the_documentation():
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0
