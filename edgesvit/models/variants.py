"""Published models by name: what they are, how large, how good, and who says so."""

from typing import Any

import msgspec


class Variant(msgspec.Struct, frozen=True):
    """One row of a family's table.

    `parameters` counts what the official code instantiates, tensors that it never uses included;
    `accuracy` is the published top-1 in percent, None where none is known.
    """

    name: str
    config: Any  # the family's configuration
    parameters: int
    accuracy: float | None
    data: str  # what the accuracy was measured on, with T and resolution
    source: str  # paper or repository that states it
