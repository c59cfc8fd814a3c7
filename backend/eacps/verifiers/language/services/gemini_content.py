"""Google's `generateContent`."""

from __future__ import annotations

import base64
from typing import Any, Final
from urllib.parse import quote

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

REFUSALS: Final = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    }
)


class GeminiContent:
    """`POST /v1/models/MODEL:generateContent`."""

    name = "gemini"
    key_variables = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    address_variables = ("GOOGLE_GEMINI_BASE_URL",)
    default_address = "https://generativelanguage.googleapis.com"
    optional = ("responseJsonSchema", "responseLogprobs", "seed", "temperature")

    def path(self, model: str) -> str:
        """The path of a request, below the address."""
        name = quote(model.removeprefix("models/"), safe="")
        return f"/v1/models/{name}:generateContent"

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key; in the address it would be logged on the way."""
        return {"x-goog-api-key": key} if key else {}

    def body(self, model: str, question: Question, left_out: frozenset[str]) -> Json:  # noqa: ARG002
        """The body of a request."""
        config: Json = {
            "maxOutputTokens": question.max_tokens,
            "responseMimeType": "application/json",
        }
        optional: Json = {"responseJsonSchema": dict(question.schema)}
        if question.temperature is not None:
            optional["temperature"] = question.temperature
        if question.seed is not None:
            optional["seed"] = question.seed
        if question.logprobs:
            optional["responseLogprobs"] = True
        config |= {name: value for name, value in optional.items() if name not in left_out}
        if "responseLogprobs" in config:
            config["logprobs"] = 20
        body: Json = {
            "contents": [{"role": "user", "parts": [_part(part) for part in question.parts]}],
            "generationConfig": config,
        }
        if question.system:
            body["systemInstruction"] = {"parts": [{"text": question.system}]}
        return body

    def answer(self, body: Json) -> Answer:
        """What an answer's body says."""
        usage = body.get("usageMetadata")
        read = Usage()
        if isinstance(usage, dict):
            written = count(usage, "candidatesTokenCount", "thoughtsTokenCount")
            read = Usage(count(usage, "promptTokenCount"), written)
        feedback = body.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            reason = f"the server blocked the request ({str(feedback['blockReason'])[:60]})"
            return Answer("", "refused", reason, read)
        candidate = first(body.get("candidates"), "candidates")
        ended = candidate.get("finishReason")
        if ended in REFUSALS:
            return Answer("", "refused", f"the server stopped it ({ended})", read)
        cut = ended == "MAX_TOKENS"
        if cut and not isinstance(candidate.get("content"), dict):
            # All tokens went into thoughts.
            return Answer("", "cut", "", read)
        content = mapping(candidate.get("content"), "content")
        parts = content.get("parts")
        if not isinstance(parts, list):
            if cut:
                return Answer("", "cut", "", read)
            raise UnreadableError("the answer has no parts")
        said = [mapping(part, "part") for part in parts]
        texts = [part.get("text") for part in said if not part.get("thought")]
        text = "".join(each for each in texts if isinstance(each, str))
        tokens = _tokens(candidate.get("logprobsResult"))
        return Answer(text, "cut" if cut else "whole", "", read, tokens)

    def problem(self, body: Any) -> str:
        """The message in an error's body."""
        return error_text(body)


def _part(part: Part) -> Json:
    if isinstance(part, str):
        return {"text": part}
    encoded = base64.b64encode(part.content).decode()
    return {"inlineData": {"mimeType": part.media_type, "data": encoded}}


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    """The tokens of an answer; none if the server did not give them, or not as it should."""
    if not isinstance(logprobs, dict):
        return ()
    chosen, likely = logprobs.get("chosenCandidates"), logprobs.get("topCandidates")
    if not isinstance(chosen, list) or not isinstance(likely, list) or len(chosen) != len(likely):
        return ()
    found = []
    for one, others in zip(chosen, likely, strict=True):
        text, logprob = _read(one)
        listed = others.get("candidates") if isinstance(others, dict) else None
        if text is None or logprob is None or not isinstance(listed, list):
            return ()
        pairs = [_read(each) for each in listed]
        known = {name: value for name, value in pairs if name is not None and value is not None}
        found.append(Token(text, logprob, known))
    return tuple(found)


def _read(content: Any) -> tuple[str | None, float | None]:
    if not isinstance(content, dict):
        return None, None
    token = content.get("token")
    return token if isinstance(token, str) else None, number(content.get("logProbability"))
