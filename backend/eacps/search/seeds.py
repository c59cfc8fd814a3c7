"""Seeds: derived from one root by hashing, short enough to read on a card, never given twice."""

from __future__ import annotations

import hashlib

SEED_BITS = 31


def derived_seed(root: int, index: int) -> int:
    """The seed number `index` of the stream that `root` names; the same on every machine.

    >>> derived_seed(7, 0), derived_seed(7, 1)
    (1339181438, 1779727153)
    """
    content = hashlib.blake2b(f"{root}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(content, "big") >> (64 - SEED_BITS)


class Seeds:
    """Hands out the seeds of one search: the same ones for the same root, each only once.

    >>> seeds = Seeds(root=7)
    >>> first = seeds.fresh()
    >>> seeds.after(first) - first, seeds.after(first) - first
    (1, 2)
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._index = 0
        # taken seed -> a later seed that may be free. Following the links and shortening them
        # behind us passes a long row of neighbours without visiting each one every time.
        self._skip: dict[int, int] = {}

    def fresh(self) -> int:
        """A seed that has nothing to do with any other."""
        while True:
            seed = derived_seed(self._root, self._index)
            self._index += 1
            if seed not in self._skip:
                return self._take(seed)

    def after(self, seed: int) -> int:
        """The first seed above `seed` that was not given yet."""
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
