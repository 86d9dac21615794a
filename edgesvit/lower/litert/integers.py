"""Exact integers in float32: one tensor below 2**24 in magnitude, or two digits of a larger one.

Every integer up to 2**24 is a float32, and so is every sum and product that stays below: whatever
the order in which a kernel adds, nothing rounds. Larger numbers are `high * base + low`.
"""

from dataclasses import dataclass

import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.lower.litert.graph import Graph
from edgesvit.program.validate import MAX_MEMBRANE

EXACT = 1 << 24


@dataclass(frozen=True)
class Number:
    """Integers between -bound and bound: `low`, or `high * base + low` with 0 <= low < base."""

    low: int
    bound: int
    high: int | None = None
    base: int = 1


def require(bound: int | float, what: str) -> None:
    """Raise EdgesvitError unless `bound` stays below what float32 can count."""
    if bound >= EXACT:
        raise EdgesvitError(f"litert cannot carry {what} exactly: it may reach {int(bound)}, "
                            "float32 counts to 16777216", "--runtime litert-fast")


def split(g: Graph, x: int, base: int) -> tuple[int, int]:
    """high = floor(x / base) and low = x - high * base."""
    high = g.unary("FLOOR", g.scaled(x, 1 / base))
    return high, g.binary("SUB", x, g.scaled(high, base))


def normal(g: Graph, high: int, low: int, base: int, bounds: tuple[int, int], what: str) -> Number:
    """`high * base + low` of magnitudes up to `bounds`, with its low digit put in order."""
    total = bounds[0] * base + bounds[1]
    require(bounds[1], what)
    require(bounds[0] + bounds[1] // base + 1, what)
    carry, low = split(g, low, base)
    return Number(low, total, g.binary("ADD", high, carry), base)


def plus(g: Graph, x: Number, constant: np.ndarray | int) -> Number:
    """A narrow x plus a constant [C]."""
    largest = int(np.abs(constant).max())
    require(x.bound + largest, "a sum")
    return Number(g.binary("ADD", x.low, g.number(constant)), x.bound + largest)


def short_of(g: Graph, x: Number, threshold: np.ndarray | int) -> int:
    """Where x is below `threshold` the distance, at least 1; 0 elsewhere: float, [T, H, W, C].

    Of two digits the sum rounds, but its sign does not.
    """
    threshold = np.asarray(threshold, np.int64)
    if x.high is None:
        limit = np.clip(threshold, -EXACT, EXACT)  # beyond it x, which is smaller, never comes
        return g.binary("SUB", g.number(limit), x.low, relu=True)
    high = g.binary("SUB", g.number(threshold // x.base), x.high)
    low = g.binary("SUB", g.number(threshold % x.base), x.low)
    return g.binary("ADD", g.scaled(high, x.base), low, relu=True)


def reached(g: Graph, x: Number, threshold: np.ndarray | int) -> int:
    """1 where x >= threshold, else 0."""
    return g.binary("SUB", g.number(1), short_of(g, x, threshold), relu=True)


def rescale(g: Graph, x: Number, scale: np.ndarray, shift: int, what: str) -> Number:
    """floor(x * scale / 2**shift + 1/2) for `scale` int32 [C]: schoolbook multiplication.

    Digits of x times digits of scale, in a base so small that no column passes 2**24; columns are
    carried by floor, which nests: floor((a * n + b) / (n * m)) = floor((a + floor(b / n)) / m).
    Results beyond what float32 counts are only near, as far as the bound goes: for who clamps them.
    """
    digits, bits = _digits(g, x)
    base = 1 << bits
    factors = [(scale.astype(np.int64) >> bits * i) & (base - 1)
               for i in range(-(-int(scale.max()).bit_length() // bits))]
    columns = [_column(g, digits, factors, at) for at in range(len(digits) + len(factors) - 1)]
    carry, at, left = None, 0, shift
    while left > bits:
        total = _sum(g, [carry, columns[at] if at < len(columns) else None])
        carry = None if total is None else g.unary("FLOOR", g.scaled(total, 1 / base))
        at, left = at + 1, left - bits
    # Digits of two signs may be larger than what they add up to: by so much at most.
    slack = 2 * base**2 if len(digits) > 1 else 0
    require((slack * int(scale.max()) >> shift) + 4 * MAX_MEMBRANE, what)
    largest = (x.bound * int(scale.max()) >> shift) + 1
    rest = [c if c is None else g.scaled(c, 2.0 ** (bits * i - left)) if bits * i != left else c
            for i, c in enumerate(columns[at + 1:], 1)]
    first = _sum(g, [carry, columns[at] if at < len(columns) else None])
    if first is not None:
        first = g.binary("ADD", g.scaled(first, 2.0**-left), g.number(0.5))
        rest.insert(0, g.unary("FLOOR", first))
    total = _sum(g, rest)
    return Number(g.scaled(digits[0], 0) if total is None else total, largest)


def _digits(g: Graph, x: Number) -> tuple[list[int], int]:
    """x in base 2**bits, lowest digit first, so that products of digits can be added up exactly."""
    if x.high is None and x.bound <= 1 << 18:
        return [x.low], 24 - int(x.bound).bit_length()
    bits = 10
    if x.high is None:
        high, low = split(g, x.low, 1 << bits)
        return [low, high], bits
    bits = x.base.bit_length() - 1
    middle, high = x.high, None
    if x.bound // x.base > 1 << (22 - bits):
        high, middle = split(g, x.high, x.base)
    return [x.low, middle, high][:2 if high is None else 3], bits


def _column(g: Graph, digits: list[int], factors: list[np.ndarray], at: int) -> int | None:
    """The sum of all digits[i] * factors[at - i]; None where all are 0."""
    terms = [g.scaled(digit, factors[at - i]) for i, digit in enumerate(digits)
             if 0 <= at - i < len(factors) and factors[at - i].any()]
    return _sum(g, terms)


def _sum(g: Graph, terms: list[int | None]) -> int | None:
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else g.binary("ADD", total, term)
    return total
