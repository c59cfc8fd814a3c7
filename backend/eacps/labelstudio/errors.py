"""What Label Studio may refuse, and how it may fail."""

from __future__ import annotations

from eacps.errors import EacpsError, RetryLaterError


class LabelStudioError(EacpsError):
    """Label Studio refused a request; trying again unchanged will not help."""

    code = "label_studio_refused"


class LabelStudioDownError(LabelStudioError, RetryLaterError):
    """Label Studio did not answer, or answered 5xx; trying again later may help."""

    code = "label_studio_down"


class LabelStudioStumbledError(LabelStudioDownError):
    """Label Studio is up but fails at this request; it may go on doing so for ever."""

    code = "label_studio_stumbled"
    only_here = True
