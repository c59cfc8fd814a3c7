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
STATUS_HEADERS = {
    # With `no-referrer`, browsers do not even tell us that a form was on our own page.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": _NOTHING.replace("form-action 'none'", "form-action 'self'")
    + "; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'",
}
"""Of the status page, which has a script and buttons."""
