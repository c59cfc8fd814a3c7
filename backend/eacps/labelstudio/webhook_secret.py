"""The secret with which Label Studio's webhook proves that Label Studio sends it."""

from __future__ import annotations

import hmac

from eacps.settings import Settings

WEBHOOK_SECRET_HEADER = "X-EACPS-Webhook-Secret"  # noqa: S105
"""The header in which Label Studio's webhook sends EACPS_WEBHOOK_SECRET."""


def secret_headers(settings: Settings) -> dict[str, str]:
    """The headers that the webhook must send."""
    secret = settings.webhook_secret.get_secret_value()
    return {WEBHOOK_SECRET_HEADER: secret} if secret else {}


def accepts_secret(sent: str, settings: Settings) -> bool:
    """Whether a webhook with this header is Label Studio's, as far as a secret is set."""
    wanted = settings.webhook_secret.get_secret_value()
    return not wanted or hmac.compare_digest(sent.encode(), wanted.encode())
