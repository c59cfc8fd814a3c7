"""Headers that tell browsers to be careful with our answers."""

from __future__ import annotations

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": _NOTHING,
}
"""For all answers; one that needs more sets its own."""
PAGE_POLICY = f"{_NOTHING}; style-src 'unsafe-inline'"
"""The content security policy of a page: it may also style itself."""
