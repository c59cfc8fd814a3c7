"""A server that judges, in the wire formats of OpenAI, Anthropic and Gemini, with faults on demand.

It reads the pictures that it is sent: the brightness of the edited one is its score, so that a test
sees whether each answer ended up with its own picture.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from tests.patience import PATIENCE

Json = dict[str, Any]
READ_PER_PICTURE, READ_PER_TEXT, WRITTEN = 100, 10, 25

BODIES = {
    "prose": "The hat is red and the bear looks well. I would give it a good score.",
    "empty": "",
    "cut_json": '{"satisfied": {"reason": "The hat is there", "score": ',
    "two_objects": '{"satisfied": {"reason": "a", "score": 9}} or {"satisfied": {"reason": "b", '
    '"score": 0}}',
    "twins": '{"satisfied": {"reason": "a", "score": 9, "score": 0}}',
    "nan": '{"satisfied": {"reason": "a", "score": NaN}}',
    "out_of_range": '{"satisfied": {"reason": "a", "score": 90}, "preserved": {"reason": "b", '
    '"score": -4}, "intact": {"reason": "c", "score": 1e999}}',
    "words": '{"satisfied": {"reason": "a", "score": "nine"}, "preserved": {"reason": "b", "score":'
    ' null}, "intact": {"reason": "c", "score": [9]}}',
    "other_questions": '{"beauty": {"reason": "a", "score": 9}}',
    "thought": '<think>It could be {"satisfied": {"reason": "", "score": 9}} but',
}
"""Answers that say nothing certain."""
STATUSES = {"rate_limited": 429, "overloaded": 529, "broken": 500, "html": 502, "unavailable": 503}
BREAKS = ("hangs_up", "short_body", "not_json", "no_choices")
REFUSES = ("declines", "length")
FAULTS = (*BODIES, *STATUSES, *BREAKS, *REFUSES)


@dataclass
class Heard:
    """One request, read as the protocol's servers read it."""

    service: str
    model: str
    system: str
    texts: list[str]
    pictures: list[Image.Image]
    body: Json
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """The last text, which has the questions."""
        return self.texts[-1]

    @property
    def instruction(self) -> str:
        """What stands in the only place for the request, as data."""
        found = re.search(r'The request: ("(?:[^"\\]|\\.)*")', self.text)
        assert found, self.text
        return str(json.loads(found[1]))

    @property
    def writes_questions(self) -> bool:
        """Whether the questions of a task are to be written."""
        return '"q1": "<question 1>"' in self.text

    @property
    def asks_questions(self) -> bool:
        """Whether an edit is asked the questions of its task."""
        return '"q1": {"reason"' in self.text

    @property
    def score(self) -> int:
        """The score that the edited picture deserves: its brightness from 0 to 9."""
        return score_of(self.pictures[1 if len(self.pictures) > 1 else 0])


def score_of(picture: Image.Image) -> int:
    """A picture's brightness from 0 to 9."""
    grey = picture.convert("L").resize((1, 1)).getpixel((0, 0))
    assert isinstance(grey, int)
    return min(9, round(grey / 28))


def picture_of(score: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A picture that deserves this score."""
    return Image.new("RGB", size, (score * 28,) * 3)


@dataclass
class JudgeServer:
    """Answers truthfully, unless `fault` names a fault for a request."""

    fault: Callable[[Heard], str] = lambda _: ""
    gives_logprobs: bool = False
    refuses_parts: Sequence[str] = ()
    retry_after: str = ""
    key: str = ""
    moved_to: str = ""
    say: Callable[[Heard], str] | None = None
    heard: list[Heard] = field(default_factory=list)
    busiest: int = 0
    read: int = 0
    written: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""

    def answer(self, path: str, headers: Mapping[str, str], body: Json) -> tuple[int, Any, str]:
        """Status, content, and the fault that shaped it."""
        heard = understood(path, headers, body)
        with self._lock:
            self.heard.append(heard)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            return self._answer(heard)
        finally:
            with self._lock:
                self._busy -= 1

    def _answer(self, heard: Heard) -> tuple[int, Any, str]:
        if self.key and self.key not in json.dumps(dict(heard.headers)):
            shown = heard.headers.get("authorization", heard.headers.get("x-api-key", ""))
            return 401, {"error": {"message": f"Incorrect API key provided: {shown}"}}, ""
        for part in self.refuses_parts:
            if f'"{part}"' in json.dumps(heard.body):
                words = f"Unsupported parameter: '{part}' is not supported with this model."
                return 400, {"error": {"message": words, "param": part}}, ""
        fault = self.fault(heard)
        if self.moved_to:
            return 307, {}, ""
        if fault == "slow":
            self.released.wait(PATIENCE)
        if fault in STATUSES:
            return STATUSES[fault], {"error": {"message": f"{fault}, sorry"}}, fault
        if fault == "no_choices":
            return 200, {"choices": [], "content": None, "candidates": []}, fault
        text = BODIES.get(fault)
        if text is None:
            text = self.say(heard) if self.say else truthful(heard)
        if fault == "length":
            text = text[: len(text) // 2]
        return 200, self._wrapped(heard, text, fault), fault

    def _wrapped(self, heard: Heard, text: str, fault: str) -> Json:
        read = READ_PER_PICTURE * len(heard.pictures) + READ_PER_TEXT * len(heard.texts)
        with self._lock:
            self.read += read
            self.written += WRITTEN
        logprobs = self.gives_logprobs
        return WRAPPINGS[heard.service](heard, text, fault, read, logprobs)


def truthful(heard: Heard) -> str:
    """The JSON that the request's schema asks for, with the edited picture's own score."""
    if "better" in heard.text:
        return json.dumps({"reason": "It is brighter.", "better": better(heard.pictures)})
    if '"score" : [...]' in heard.text:
        return json.dumps({"reasoning": "Seen.", "score": [heard.score] * 2})
    if heard.writes_questions:
        return written(heard)
    names = re.findall(r'"(\w+)": \{"reason"', heard.text)
    given: Json = {}
    for name in names:
        if f'"{name}": {{"reason": "<one sentence>", "answer"' in heard.text:
            given[name] = {"reason": "Seen.", "answer": "yes" if heard.score > 4 else "no"}
        else:
            given[name] = {"reason": f"It is {heard.score} bright.", "score": heard.score}
    return json.dumps(given)


def written(heard: Heard, version: str = "") -> str:
    """Questions and a caption as the request asks for them."""
    names = re.findall(r'"(q\d+)": "<question', heard.text)
    own: Json = {name: f"Is part {name[1:]} of the picture right{version}?" for name in names}
    return json.dumps({"caption": f"A bear with a red hat{version}.", **own})


def better(pictures: Sequence[Image.Image]) -> str:
    """Which of the second and the third picture is brighter."""
    first, second = (score_of(picture) for picture in pictures[1:3])
    return "neither" if first == second else "first" if first > second else "second"


def understood(path: str, headers: Mapping[str, str], body: Json) -> Heard:
    """A request of any of the three protocols."""
    lowered = {name.lower(): value for name, value in headers.items()}
    if path.endswith("/chat/completions"):
        system = [one["content"] for one in body["messages"] if one["role"] == "system"]
        (user,) = [one["content"] for one in body["messages"] if one["role"] == "user"]
        texts = [part["text"] for part in user if part["type"] == "text"]
        urls = [part["image_url"]["url"] for part in user if part["type"] == "image_url"]
        pictures = [_decoded(url.partition("base64,")[2]) for url in urls]
        return Heard("openai", body["model"], "".join(system), texts, pictures, body, lowered)
    if path.endswith("/v1/messages"):
        assert lowered["anthropic-version"]
        (message,) = body["messages"]
        parts = message["content"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        pictures = [_decoded(part["source"]["data"]) for part in parts if part["type"] == "image"]
        return Heard(
            "anthropic", body["model"], body.get("system", ""), texts, pictures, body, lowered
        )
    found = re.search(r"/v1/models/([^/:]+):generateContent", path)
    assert found, path
    parts = body["contents"][0]["parts"]
    texts = [part["text"] for part in parts if "text" in part]
    pictures = [_decoded(part["inlineData"]["data"]) for part in parts if "inlineData" in part]
    system_parts = body.get("systemInstruction", {"parts": []})["parts"]
    told = "".join(part["text"] for part in system_parts)
    return Heard("gemini", found[1], told, texts, pictures, body, lowered)


def _decoded(text: str) -> Image.Image:
    # Google's client writes the alphabet for addresses; its servers read both.
    content = base64.b64decode(
        text, altchars="-_" if set(text) & set("-_") else None, validate=True
    )
    image = Image.open(io.BytesIO(content))
    image.load()
    assert not image.getexif()
    return image


def _openai(heard: Heard, text: str, fault: str, read: int, logprobs: bool) -> Json:
    message: Json = {"role": "assistant", "content": text, "refusal": None}
    if fault == "declines":
        message |= {"content": None, "refusal": "I cannot help with that."}
    choice: Json = {
        "index": 0,
        "message": message,
        "finish_reason": "length" if fault == "length" else "stop",
        "logprobs": None,
    }
    if logprobs and heard.body.get("logprobs"):
        choice["logprobs"] = {"content": [_token(each) for each in likely(text)], "refusal": None}
    usage = {"prompt_tokens": read, "completion_tokens": WRITTEN, "total_tokens": read + WRITTEN}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": heard.model,
        "choices": [choice],
        "usage": usage,
    }


def _token(each: tuple[str, Mapping[str, float]]) -> Json:
    text, others = each
    listed = [
        {"token": name, "logprob": math.log(share), "bytes": list(name.encode())}
        for name, share in others.items()
    ]
    chosen = math.log(others[text])
    return {
        "token": text,
        "logprob": chosen,
        "bytes": list(text.encode()),
        "top_logprobs": listed,
    }


def likely(text: str) -> list[tuple[str, Mapping[str, float]]]:
    """Tokens of a text with what else was likely: beside every digit, the one below it."""
    found: list[tuple[str, Mapping[str, float]]] = []
    for token in re.findall(r"\d|[^\W\d]+|\W", text):
        if token.isdigit() and token != "0":
            found.append((token, {token: 0.75, str(int(token) - 1): 0.25}))
        elif token in ("first", "second"):
            other = "second" if token == "first" else "first"
            found.append((token, {token: 0.9, other: 0.1}))
        elif token in ("yes", "no"):
            other = "no" if token == "yes" else "yes"
            found.append((token, {token: 0.8, other: 0.2}))
        else:
            found.append((token, {token: 1.0}))
    return found


def _anthropic(heard: Heard, text: str, fault: str, read: int, _: bool) -> Json:
    reasons = {"length": "max_tokens", "declines": "refusal"}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": heard.model,
        "content": [] if fault == "declines" else [{"type": "text", "text": text}],
        "stop_reason": reasons.get(fault, "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": read, "output_tokens": WRITTEN},
    }


def _gemini(heard: Heard, text: str, fault: str, read: int, logprobs: bool) -> Json:
    usage = {
        "promptTokenCount": read,
        "candidatesTokenCount": WRITTEN - 5,
        "thoughtsTokenCount": 5,
        "totalTokenCount": read + WRITTEN,
    }
    if fault == "declines":
        return {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}
    candidate: Json = {
        "index": 0,
        "content": {"role": "model", "parts": [{"text": text}]},
        "finishReason": "MAX_TOKENS" if fault == "length" else "STOP",
    }
    if logprobs and heard.body["generationConfig"].get("responseLogprobs"):
        tokens = likely(text)
        candidate["logprobsResult"] = {
            "chosenCandidates": [_scored(name, others[name]) for name, others in tokens],
            "topCandidates": [
                {"candidates": [_scored(name, share) for name, share in others.items()]}
                for _, others in tokens
            ],
        }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": heard.model}


def _scored(name: str, share: float) -> Json:
    return {"token": name, "tokenId": 1, "logProbability": math.log(share)}


WRAPPINGS: Mapping[str, Callable[[Heard, str, str, int, bool], Json]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        judge = self.server.judge
        status, content, fault = judge.answer(self.path, dict(self.headers.items()), body)
        if fault == "hangs_up":
            self.close_connection = True
            return
        data = json.dumps(content).encode()
        if fault == "not_json":
            data = data[: len(data) // 2]
        if fault == "html":
            data = b"<html><body>Bad gateway</body></html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if judge.moved_to:
            self.send_header("Location", judge.moved_to + self.path)
        if judge.retry_after and status != 200:
            self.send_header("Retry-After", judge.retry_after)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault == "short_body":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    judge: JudgeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that time out hang up."""


@contextmanager
def serving(judge: JudgeServer | None = None, port: int = 0) -> Iterator[JudgeServer]:
    """The server, running; its `address` has no path."""
    judge = judge or JudgeServer()
    server = _Server(("127.0.0.1", port), _Handler)
    server.judge = judge
    judge.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        judge.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
