"""All errors. Each has a code and says what is wrong and what to do about it."""

from __future__ import annotations

from typing import Final

FAULTS_OF_TASKS: Final = frozenset(
    {
        *(
            "bad_choice",
            "bad_task",
            "bad_text",
            "no_instruction",
            "bad_instruction",
            "instruction_too_long",
        ),
        *("no_image", "bad_address", "bad_image", "image_animated", "image_shape"),
        *("image_too_large", "image_too_small", "bad_mask", "empty_mask", "bad_mapping"),
        *("no_character", "no_face", "no_face_in_character", "no_face_in_mask"),
        *("too_few_faces", "face_too_small", "profile_face"),
    }
)
"""The codes of what is wrong with a task itself: it fails again as long as it is the same task and
the settings are the same."""


class EacpsError(Exception):
    """Base class of errors with a message for users; `hint` says what to do."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class SettingsError(EacpsError):
    """A setting is invalid, or two settings contradict each other."""

    code = "bad_setting"


class TaskError(EacpsError):
    """The task is invalid, e.g. a field is missing or has the wrong type."""

    code = "bad_task"


class ImageError(TaskError):
    """An image is broken, too large, animated, or of a type that is not accepted."""

    code = "bad_image"


class FetchError(TaskError):
    """An image could not be fetched, e.g. because its host is not allowed."""

    code = "fetch_failed"


class NotAvailableError(TaskError):
    """The task needs something that is not installed."""

    code = "not_available"


class FaceError(TaskError):
    """A face cannot be found or swapped; `code` gives the reason."""

    code = "face_failed"


class EditorError(EacpsError):
    """The editor could not be loaded, or could not render."""

    code = "editor_failed"


class ScoringError(EacpsError):
    """A scorer could not be loaded, or could not judge."""

    code = "scoring_failed"


class JudgeDownError(ScoringError):
    """The judges cannot be asked for now: a server is down, or a limit is reached."""

    code = "judge_down"


class SearchError(EacpsError):
    """The search ended without a usable candidate."""

    code = "search_failed"


class CancelledError(EacpsError):
    """The job was cancelled."""

    code = "cancelled"


class RetryLaterError(EacpsError):
    """A service is unavailable for now; the same request may succeed later.

    `only_here` means that the service is up but fails on this request, perhaps for ever. Such a
    request is given up after a few attempts. `retry_after` is how many seconds the service asked
    to be left alone.
    """

    code = "try_later"
    only_here = False
    retry_after = 0.0


def first_line(error: BaseException) -> str:
    """A third-party error in one line: its type and the start of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")
