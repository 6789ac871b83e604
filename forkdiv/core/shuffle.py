"""A keyed pseudo-random permutation of range(n), computed one value at a time.

Distinct draws and exact shares without remembering what was drawn: memory stays flat however
many problems a dataset has. A Feistel network over the bits of n, walked on until it lands
below n (J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

import hashlib

ROUNDS = 6


class Shuffled:
    """`shuffled(i)` is where index i stands in a random order of range(count) named by `key`."""

    def __init__(self, count: int, key: str) -> None:
        if count < 1:
            raise ValueError(f"nothing to shuffle: got count={count}; allowed: 1 and more")
        self.count = count
        bits = max((count - 1).bit_length(), 2)
        self._low = bits // 2
        self._high = bits - self._low
        self._rounds = [hashlib.blake2b(f"{key}/{i}".encode()) for i in range(ROUNDS)]
        self._bytes = (self._high + 7) // 8

    def __call__(self, index: int) -> int:
        """Raises IndexError outside of range(count)."""
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} of a shuffle of {self.count}")
        value = self._cipher(index)
        while value >= self.count:  # the domain is less than twice (at 2 bits: 4 times) as large
            value = self._cipher(value)
        return value

    def _cipher(self, value: int) -> int:
        # unequal halves swap their widths each round, so that any number of bits will do
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
    """A subset of range(count): the first `size` of a shuffled order. Answers `index in chosen`."""

    def __init__(self, size: int, order: Shuffled | None) -> None:
        self.size = size
        self._order = order

    @classmethod
    def first(cls, count: int, size: int, key: str) -> Chosen:
        """`size` of `count`, in the order that `key` names."""
        if not 0 <= size <= count:
            raise ValueError(f"cannot choose {size} of {count}")
        return cls(size, Shuffled(count, key) if count else None)

    def rank(self, index: int) -> int:
        """Where an index stands in the order: below `size`, it is chosen."""
        if self._order is None:
            raise IndexError(f"index {index} of nothing")
        return self._order(index)

    def __contains__(self, index: int) -> bool:
        return self._order is not None and self._order(index) < self.size


def chosen(count: int, share: float, key: str) -> Chosen:
    """Exactly round(share * count) of the indices; those of a smaller share are among a
    larger's."""
    return Chosen.first(count, round(share * count), key)


def spread(rank: int, count: int) -> int:
    """Where `rank` comes when range(count) is ordered by its binary digits read backwards.

    Of the first ranks before, nearly any share comes first after as well: ranks that choose
    one thing and their spread, which chooses another, are as good as independent and yet off
    by a few only (the sequence of J. G. van der Corput, 1935).
    """
    before, bit = 0, 0
    while rank >> bit:
        if rank >> bit & 1:  # all that agree so far and have a 0 here come earlier
            agree = rank & ((1 << bit) - 1)
            before += (count - agree + (1 << bit + 1) - 1) >> bit + 1
        bit += 1
    return before
