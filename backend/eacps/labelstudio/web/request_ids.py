"""The id of a request, which logs, spans and jobs name. Imports nothing that measures."""

from __future__ import annotations

import re
from typing import Final

from eacps import log

REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID: Final = "eacps.request_id"
"""Where the id is in the WSGI environment."""
_SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def request_id(sent: str) -> str:
    """The id that a client sent, if it is harmless in logs; else a new one."""
    return sent if _SANE.fullmatch(sent) else log.new_request()
