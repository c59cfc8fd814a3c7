"""Errors of Label Studio's API."""

from __future__ import annotations

from eacps.errors import EacpsError, RetryLaterError


class LabelStudioError(EacpsError):
    """Label Studio refused a request; retrying it unchanged will not help."""

    code = "label_studio_refused"


class LabelStudioDownError(LabelStudioError, RetryLaterError):
    """Label Studio cannot be used for now; retrying later may help."""

    code = "label_studio_down"


class LabelStudioRequestFailedError(LabelStudioDownError):
    """Label Studio is up but fails on this request, perhaps permanently."""

    code = "label_studio_stumbled"
    only_here = True
