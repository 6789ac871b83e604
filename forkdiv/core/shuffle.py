"""A keyed pseudo-random permutation of range(n), computed one value at a time.

It gives distinct draws and exact shares without storing what was drawn, so memory use does not
grow with the dataset. A Feistel network over the bits of n, applied repeatedly until the value is
below n (J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

import hashlib

ROUNDS = 6


class Shuffled:
    """A random permutation of range(count) that `key` determines: `shuffled(i)` is the position of
    index i."""

    def __init__(self, count: int, key: str) -> None:
        if count < 1:
            raise ValueError(f"nothing to shuffle: got count={count}; allowed: 1 or more")
        self.count = count
        bits = max((count - 1).bit_length(), 2)
        self._low = bits // 2
        self._high = bits - self._low
        self._rounds = [hashlib.blake2b(f"{key}/{i}".encode()) for i in range(ROUNDS)]
        self._bytes = (self._high + 7) // 8

    def __call__(self, index: int) -> int:
        """Raises IndexError outside of range(count)."""
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} is outside of a shuffle of {self.count} indices")
        value = self._cipher(index)
        while value >= self.count:  # the domain is at most twice (with 2 bits: 4 times) as large
            value = self._cipher(value)
        return value

    def _cipher(self, value: int) -> int:
        # halves of unequal width swap widths each round, so any number of bits works
        left_bits, right_bits = self._high, self._low
        left, right = value >> right_bits, value & ((1 << right_bits) - 1)
        for keyed in self._rounds:
            mixed = keyed.copy()
            mixed.update(right.to_bytes(self._bytes, "little"))
            noise = mixed.digest()
            if left_bits > 512:
                noise = hashlib.shake_256(noise).digest(self._bytes)
            left, right = right, left ^ (int.from_bytes(noise, "little") & ((1 << left_bits) - 1))
            left_bits, right_bits = right_bits, left_bits
        return (left << right_bits) | right


class Chosen:
    """A random subset of range(count): the first `size` indices of a shuffled order. Supports
    `index in subset`."""

    def __init__(self, size: int, order: Shuffled | None) -> None:
        self.size = size
        self._order = order

    @classmethod
    def first(cls, count: int, size: int, key: str) -> Chosen:
        """Returns `size` of `count` indices, in the order that `key` determines."""
        if not 0 <= size <= count:
            raise ValueError(f"cannot choose {size} of {count} indices")
        return cls(size, Shuffled(count, key) if count else None)

    def rank(self, index: int) -> int:
        """Returns the position of an index in the order; the index is in the subset if the
        position is below `size`."""
        if self._order is None:
            raise IndexError(f"index {index} of an empty range")
        return self._order(index)

    def __contains__(self, index: int) -> bool:
        return self._order is not None and self._order(index) < self.size


def chosen(count: int, share: float, key: str) -> Chosen:
    """Returns a subset of exactly round(share * count) indices. With the same key, a smaller share
    gives a subset of a larger one."""
    return Chosen.first(count, round(share * count), key)


def spread(rank: int, count: int) -> int:
    """Returns the position of `rank` when range(count) is sorted by reversed binary digits (the
    sequence of J. G. van der Corput, 1935).

    Use it to make two choices from one order: the first choice takes low ranks, the second low
    positions. The choices are then nearly independent, and all joint shares are exact to within a
    few items.
    """
    before, bit = 0, 0
    while rank >> bit:
        if rank >> bit & 1:  # numbers with the same lower bits and a 0 here come earlier
            lower_bits = rank & ((1 << bit) - 1)
            before += (count - lower_bits + (1 << bit + 1) - 1) >> bit + 1
        bit += 1
    return before
