"""One error tree. Every error has a code, says what is wrong, and what to change."""

from __future__ import annotations


class EacpsError(Exception):
    """Base of every error that a person may read; `hint` says what to do about it."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class SettingsError(EacpsError):
    """A setting is wrong, or two of them contradict each other."""

    code = "bad_setting"


class TaskError(EacpsError):
    """The task itself is at fault: a field is missing, or has the wrong type."""

    code = "bad_task"


class ImageError(TaskError):
    """An image is broken, too large, animated, or of a type that is not accepted."""

    code = "bad_image"


class FetchError(TaskError):
    """An image could not be fetched: refused host, private address, HTTP error."""

    code = "fetch_failed"


class NotAvailableError(TaskError):
    """The task asks for something that this build does not have."""

    code = "not_available"


class FaceError(TaskError):
    """A face cannot be found or swapped; `code` says which of the known reasons it is."""

    code = "face_failed"


class EditorError(EacpsError):
    """The editor could not be loaded, or could not render."""

    code = "editor_failed"


class ScoringError(EacpsError):
    """A scorer could not be loaded, or could not judge."""

    code = "scoring_failed"


class SearchError(EacpsError):
    """The search ended without one usable candidate."""

    code = "search_failed"


class CancelledError(EacpsError):
    """Somebody cancelled the job."""

    code = "cancelled"


class RetryLaterError(EacpsError):
    """Something that is needed is away for now; the same request may succeed later.

    `only_here` says that it is there but fails at this request, perhaps for ever: such a request
    is given up after a few tries.
    """

    code = "try_later"
    only_here = False


def first_line(error: BaseException) -> str:
    """A foreign error in one short line: its type, and what it says first."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")
