"""The chat completions of OpenAI, which vLLM, SGLang, Ollama, llama.cpp and others speak, too."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from eacps.verifiers.language.services.contract import (
    Answer,
    Json,
    Part,
    Question,
    Token,
    UnreadableError,
    Usage,
    count,
    error_text,
    first,
    mapping,
    number,
)

OLD_LIMIT: Final = "max_completion_tokens"
"""Left out of a request, the limit is sent by its earlier name, which most other servers want."""


class OpenAIChat:
    """`POST /chat/completions`."""

    name = "openai"
    key_variables = ("OPENAI_API_KEY",)
    address_variables = ("OPENAI_BASE_URL",)
    default_address = "https://api.openai.com/v1"
    optional = ("response_format", "logprobs", "seed", "temperature", OLD_LIMIT)

    def path(self, model: str) -> str:  # noqa: ARG002 - the model is in the body
        """The path of a request, below the address."""
        return "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, model: str, question: Question, left_out: frozenset[str]) -> Json:
        """The body of a request."""
        limit = "max_tokens" if OLD_LIMIT in left_out else OLD_LIMIT
        body: Json = {"model": model, "messages": _messages(question), limit: question.max_tokens}
        schema = {"name": "judgement", "strict": True, "schema": dict(question.schema)}
        optional: Json = {"response_format": {"type": "json_schema", "json_schema": schema}}
        if question.temperature is not None:
            optional["temperature"] = question.temperature
        if question.seed is not None:
            optional["seed"] = question.seed
        if question.logprobs:
            optional["logprobs"] = True
        body |= {name: value for name, value in optional.items() if name not in left_out}
        if "logprobs" in body:
            body["top_logprobs"] = 20
        return body

    def answer(self, body: Json) -> Answer:
        """What an answer's body says."""
        choice = first(body.get("choices"), "choices")
        message = mapping(choice.get("message"), "message")
        usage = body.get("usage")
        read = Usage()
        if isinstance(usage, dict):
            read = Usage(count(usage, "prompt_tokens"), count(usage, "completion_tokens"))
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            return Answer("", "refused", refusal, read)
        if choice.get("finish_reason") == "content_filter":
            return Answer("", "refused", "the server's content filter stopped it", read)
        cut = choice.get("finish_reason") == "length"
        text = _text(message.get("content"))
        return Answer(text, "cut" if cut else "whole", "", read, _tokens(choice.get("logprobs")))

    def problem(self, body: Any) -> str:
        """The message in an error's body."""
        return error_text(body)


def _messages(question: Question) -> list[Json]:
    content = [_part(part) for part in question.parts]
    system = [{"role": "system", "content": question.system}] if question.system else []
    return [*system, {"role": "user", "content": content}]


def _part(part: Part) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    encoded = base64.b64encode(part.content).decode()
    url = f"data:{part.media_type};base64,{encoded}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(content: Any) -> str:
    if isinstance(content, list):
        # Some servers answer in parts; thoughts are parts of another type.
        texts = [each.get("text") for each in content if _is_text(each)]
        content = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str):
        raise UnreadableError("the answer has no text")
    return content


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    """The tokens of an answer; none if the server did not give them, or not as it should."""
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(listed, list):
        return ()
    found = []
    for each in listed:
        token = _token(each)
        if token is None:
            return ()
        found.append(token)
    return tuple(found)


def _token(content: Any) -> Token | None:
    if not isinstance(content, Mapping):
        return None
    text, logprob = content.get("token"), number(content.get("logprob"))
    others = content.get("top_logprobs")
    if not isinstance(text, str) or logprob is None or not isinstance(others, list):
        return None
    likely: dict[str, float] = {}
    for other in others:
        value = number(other.get("logprob")) if isinstance(other, Mapping) else None
        if value is not None and isinstance(other.get("token"), str):
            likely.setdefault(other["token"], value)
    return Token(text, logprob, likely)
