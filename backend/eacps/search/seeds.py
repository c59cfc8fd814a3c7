"""Seeds derived from one root by hashing: short enough for a card, and never used twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

SEED_BITS = 31


def derived_seed(root: int, index: int) -> int:
    """Seed number `index` of the stream with this root; the same on every machine.

    >>> derived_seed(7, 0), derived_seed(7, 1)
    (1339181438, 1779727153)
    """
    content = hashlib.blake2b(f"{root}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(content, "big") >> (64 - SEED_BITS)


class Seeds:
    """The seeds of one search: the same root gives the same seeds, and no seed is given twice.

    Seeds that others have `used` are not given at all.

    >>> seeds = Seeds(root=7)
    >>> first = seeds.fresh()
    >>> seeds.after(first) - first, seeds.after(first) - first
    (1, 2)
    """

    def __init__(self, root: int, used: Iterable[int] = ()) -> None:
        self.root = root
        self._index = 0
        # Maps a taken seed to a later one that may be free. `after` follows these links and
        # shortens them, so that it does not visit a long run of taken seeds one by one each time.
        self._skip: dict[int, int] = {seed: seed + 1 for seed in used}

    def fresh(self) -> int:
        """A new seed, unrelated to all others."""
        while True:
            seed = derived_seed(self.root, self._index)
            self._index += 1
            if seed not in self._skip:
                return self._take(seed)

    def after(self, seed: int) -> int:
        """The first seed above `seed` that was not used yet."""
        passed = []
        free = seed + 1
        while free in self._skip:
            passed.append(free)
            free = self._skip[free]
        for taken in passed:
            self._skip[taken] = free
        return self._take(free)

    def _take(self, seed: int) -> int:
        self._skip[seed] = seed + 1
        return seed
