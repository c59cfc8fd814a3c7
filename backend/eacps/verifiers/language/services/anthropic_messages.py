"""The messages of Anthropic, whose OpenAI-compatible address ignores the form of answers."""

from __future__ import annotations

import base64
from typing import Any, Final

from eacps.verifiers.language.services.contract import (
    Answer,
    Json,
    Part,
    Question,
    UnreadableError,
    Usage,
    count,
    error_text,
    mapping,
)

API_VERSION: Final = "2026-10-21"


class AnthropicMessages:
    """`POST /v1/messages`."""

    name = "anthropic"
    key_variables = ("ANTHROPIC_API_KEY",)
    address_variables = ("ANTHROPIC_BASE_URL",)
    default_address = "https://api.anthropic.com"
    optional = ("output_config",)

    def path(self, model: str) -> str:  # noqa: ARG002 - the model is in the body
        """The path of a request, below the address."""
        return "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key."""
        version = {"anthropic-version": API_VERSION}
        return {**version, "Authorization": f"Bearer {key}"} if key else version

    def body(self, model: str, question: Question, left_out: frozenset[str]) -> Json:
        """The body of a request."""
        content = [_part(part) for part in question.parts]
        body: Json = {
            "model": model,
            "max_tokens": question.max_tokens,
            "messages": [{"role": "user", "content": content}],
        }
        if question.system:
            body["system"] = question.system
        form = {"type": "json_schema", "schema": dict(question.schema)}
        # Without a temperature, which newer models and the official client no longer take.
        optional: Json = {"output_config": {"format": form}}
        return body | {name: value for name, value in optional.items() if name not in left_out}

    def answer(self, body: Json) -> Answer:
        """What an answer's body says."""
        usage = body.get("usage")
        read = Usage()
        if isinstance(usage, dict):
            cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
            read = Usage(count(usage, "input_tokens", *cached), count(usage, "output_tokens"))
        stopped = body.get("stop_reason")
        if stopped == "refusal":
            return Answer("", "refused", "the model declined", read)
        content = body.get("content")
        if not isinstance(content, list):
            raise UnreadableError("the answer has no content")
        blocks = [mapping(block, "content") for block in content]
        texts = [block.get("text") for block in blocks if block.get("type") == "text"]
        text = "".join(each for each in texts if isinstance(each, str))
        cut = stopped in ("max_tokens", "model_context_window_exceeded")
        return Answer(text, "cut" if cut else "whole", "", read)

    def problem(self, body: Any) -> str:
        """The message in an error's body."""
        return error_text(body)


def _part(part: Part) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    encoded = base64.b64encode(part.content).decode()
    source = {"type": "base64", "media_type": part.media_type, "data": encoded}
    return {"type": "image", "source": source}
