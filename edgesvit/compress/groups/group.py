"""What leaves together with a channel, as data: layers by module name, no tensors."""

from collections.abc import Mapping, Sequence

import msgspec


class Part(msgspec.Struct, frozen=True):
    """A layer and the batch norms behind it, all of which have one entry per channel."""

    layer: str
    bns: tuple[str, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """`size` indices; each stands for one channel in every one of `copies` heads.

    `producers` lose filters, and their norms tell how much a channel matters; `through` (depth-wise
    layers) lose the channel's window; `consumers` lose columns. The head is the slow index:
    channel = head * size + index. The name is `kind.number`; groups of the kind 'stream' are
    residual streams, which many branches write and read.
    """

    name: str
    size: int
    copies: int
    producers: tuple[Part, ...]
    consumers: tuple[str, ...]
    through: tuple[Part, ...] = ()

    @property
    def kind(self) -> str:
        """The first half of the name: what profiles and options allow or forbid."""
        return self.name.split(".")[0]

    @property
    def channels(self) -> int:
        """Of all copies together."""
        return self.size * self.copies


# The field of a configuration and the first of its entries that a kind of group counts.
Fields = Mapping[str, tuple[str, int]]


def resized(config: msgspec.Struct, fields: Fields, sizes: Mapping[str, int],
            **current: Sequence[int]) -> msgspec.Struct:
    """`config` with the entries of the groups named in `sizes` replaced.

    `current` are fields that `config` leaves empty while they have their usual values.
    """
    changed = {name: list(dims) for name, dims in current.items()}
    for name, size in sizes.items():
        kind, number = name.split(".")
        field, first = fields[kind]
        dims = changed.setdefault(field, list(getattr(config, field)))
        dims[first + int(number)] = size
    return msgspec.structs.replace(config, **{name: tuple(dims) for name, dims in changed.items()})
