"""The strictness that all settings of strategies share."""

from __future__ import annotations

from pydantic import ConfigDict

# Strict, or true would count as 1 and "8" as 8 in one place and be refused in another.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
