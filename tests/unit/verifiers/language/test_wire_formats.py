"""The wire formats: what official clients send and read is what we send and read."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from eacps.images import TaskImages
from eacps.rubrics.reading import read_rubric
from eacps.verifiers.language import prompts
from eacps.verifiers.language.services.anthropic_messages import AnthropicMessages
from eacps.verifiers.language.services.contract import Question, Service
from eacps.verifiers.language.services.gemini_content import GeminiContent
from eacps.verifiers.language.services.openai_chat import OpenAIChat
from tests.judge_server import READ_PER_PICTURE, WRITTEN, Heard, JudgeServer, picture_of, serving
from tests.unit.verifiers.language.judges import IMAGES, KEY, SERVICES, judge_at, judged, task_of

RUBRIC = read_rubric("edit")
INSTRUCTION = 'add a "red" hat'


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serving(JudgeServer(gives_logprobs=True)) as judge:
        yield judge


def request() -> prompts.Request:
    """A request as a judge makes it."""
    pictures = {**prompts.pictures_of(IMAGES, 512), "edited": prompts.shown(picture_of(7), 512)}
    return prompts.judging(RUBRIC, RUBRIC.calls[0], INSTRUCTION, pictures, preview="")


def question() -> Question:
    asked = request()
    return Question(
        asked.system,
        asked.parts,
        asked.schema,
        max_tokens=300,
        temperature=0.0,
        seed=5,
        logprobs=True,
    )


def png(score: int) -> str:
    file = io.BytesIO()
    picture_of(score).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def ask_by_openai(address: str) -> Any:
    """The same question by the official client."""
    asked = question()
    first, _, second, _, text = (part if isinstance(part, str) else None for part in asked.parts)
    client = openai.OpenAI(api_key=KEY, base_url=f"{address}/v1", max_retries=0)
    return client.chat.completions.create(
        model="tiny",
        messages=[
            {"role": "system", "content": asked.system},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": first or ""},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(3)}"}},
                    {"type": "text", "text": second or ""},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(7)}"}},
                    {"type": "text", "text": text or ""},
                ],
            },
        ],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "judgement", "strict": True, "schema": dict(asked.schema)},
        },
        max_completion_tokens=300,
        temperature=0.0,
        seed=5,
        logprobs=True,
        top_logprobs=20,
    )


def ask_by_anthropic(address: str) -> Any:
    asked = question()
    first, _, second, _, text = (part if isinstance(part, str) else None for part in asked.parts)

    def picture(score: int) -> Any:
        source = {"type": "base64", "media_type": "image/png", "data": png(score)}
        return {"type": "image", "source": source}

    client = anthropic.Anthropic(api_key=KEY, base_url=address, max_retries=0)
    return client.messages.create(
        model="tiny",
        max_tokens=300,
        system=asked.system,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": first or ""},
                    picture(3),
                    {"type": "text", "text": second or ""},
                    picture(7),
                    {"type": "text", "text": text or ""},
                ],
            }
        ],
        output_config={"format": {"type": "json_schema", "schema": dict(asked.schema)}},
    )


def ask_by_gemini(address: str) -> Any:
    asked = question()
    parts: list[Any] = [
        part
        if isinstance(part, str)
        else types.Part.from_bytes(data=part.content, mime_type=part.media_type)
        for part in asked.parts
    ]
    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=address))
    return client.models.generate_content(
        model="tiny",
        contents=parts,
        config=types.GenerateContentConfig(
            system_instruction=asked.system,
            max_output_tokens=300,
            temperature=0.0,
            seed=5,
            response_mime_type="application/json",
            response_json_schema=dict(asked.schema),
            response_logprobs=True,
            logprobs=20,
        ),
    )


OFFICIAL: Mapping[str, Callable[[str], Any]] = {
    "openai": ask_by_openai,
    "anthropic": ask_by_anthropic,
    "gemini": ask_by_gemini,
}
OURS: Mapping[str, Service] = {
    "openai": OpenAIChat(),
    "anthropic": AnthropicMessages(),
    "gemini": GeminiContent(),
}


def told(heard: Heard) -> Any:
    """What a server learns from a request, without what clients say about themselves."""
    pictures = [picture.tobytes() for picture in heard.pictures]
    rest = {
        name: value
        for name, value in heard.body.items()
        if name not in ("messages", "contents", "systemInstruction")
    }
    return heard.model, heard.system, heard.texts, pictures, rest


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_learns_the_same_from_the_official_client_and_from_us(
    server: JudgeServer, service: str
) -> None:
    OFFICIAL[service](server.address)
    body = OURS[service].body("tiny", question(), frozenset())
    paths = OURS[service].path("tiny")
    server.answer(paths, {"anthropic-version": "2026-10-21"}, json.loads(json.dumps(body)))
    theirs, ours = (told(heard) for heard in server.heard)
    if service == "openai":
        # The client sends what was asked of it; nothing more.
        theirs[-1].pop("stream", None)
    assert ours == theirs


@pytest.mark.parametrize("service", SERVICES)
def test_the_key_goes_where_the_official_client_puts_it(server: JudgeServer, service: str) -> None:
    OFFICIAL[service](server.address)
    headers = {name.lower(): value for name, value in OURS[service].headers(KEY).items()}
    assert headers
    assert {name: server.heard[0].headers.get(name) for name in headers} == headers


def test_our_request_is_what_the_official_types_describe() -> None:
    body = OURS["openai"].body("tiny", question(), frozenset())
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)


def test_the_official_openai_client_reads_the_same_answer(server: JudgeServer) -> None:
    said = ask_by_openai(server.address)
    ours = OURS["openai"].answer(said.to_dict())
    assert ours.text == said.choices[0].message.content
    assert (ours.usage.read, ours.usage.written) == (
        said.usage.prompt_tokens,
        said.usage.completion_tokens,
    )
    theirs = said.choices[0].logprobs.content
    assert [token.text for token in ours.tokens] == [token.token for token in theirs]
    for our, their in zip(ours.tokens, theirs, strict=True):
        assert our.others == {each.token: each.logprob for each in their.top_logprobs}


def test_the_official_anthropic_client_reads_the_same_answer(server: JudgeServer) -> None:
    said = ask_by_anthropic(server.address)
    ours = OURS["anthropic"].answer(said.to_dict())
    assert ours.text == said.content[0].text
    assert (ours.usage.read, ours.usage.written) == (
        said.usage.input_tokens,
        said.usage.output_tokens,
    )


def test_the_official_gemini_client_reads_the_same_answer(server: JudgeServer) -> None:
    said = ask_by_gemini(server.address)
    raw = said.model_dump(mode="json", by_alias=True, exclude_none=True)
    ours = OURS["gemini"].answer(raw)
    assert ours.text == said.text
    assert ours.usage.read == said.usage_metadata.prompt_token_count
    assert ours.usage.written == WRITTEN
    chosen = said.candidates[0].logprobs_result.chosen_candidates
    assert [token.text for token in ours.tokens] == [each.token for each in chosen]


@pytest.mark.parametrize("service", SERVICES)
def test_a_judge_gets_each_pictures_own_score(
    server: JudgeServer, service: str, tmp_path: Path
) -> None:
    judge = judge_at(server.address, tmp_path, service, way="pointwise")
    scores = [8, 0, 5, 9, 2, 3, 7, 1]
    rows = judged(judge, [picture_of(score) for score in scores])
    assert [row.values["satisfied"] for row in rows] == [score / 9 for score in scores]
    assert [set(row.values) for row in rows] == [{"satisfied", "preserved", "intact"}] * 8
    assert rows[0].why.startswith("satisfied: It is 8 bright. preserved: It is 8 bright.")
    assert server.read == len(scores) * (2 * READ_PER_PICTURE + 30)


@pytest.mark.parametrize("service", ["openai", "gemini"])
def test_where_probabilities_are_given_the_score_is_their_mean(
    server: JudgeServer, service: str, tmp_path: Path
) -> None:
    judge = judge_at(server.address, tmp_path, service)
    [row] = judged(judge, [picture_of(8)])
    assert math.isclose(row.values["satisfied"], (0.75 * 8 + 0.25 * 7) / 9)


def test_where_they_are_not_given_it_is_what_was_said(tmp_path: Path) -> None:
    with serving() as server:
        [row] = judged(judge_at(server.address, tmp_path), [picture_of(8)])
    assert row.values["satisfied"] == 8 / 9
    assert server.heard[0].body["logprobs"] is True


@pytest.mark.parametrize("part", ["response_format", "logprobs", "seed", "max_completion_tokens"])
def test_a_part_that_a_server_refuses_is_left_out_from_then_on(part: str, tmp_path: Path) -> None:
    with serving(JudgeServer(refuses_parts=[part])) as server:
        judge = judge_at(server.address, tmp_path, concurrency=1)
        rows = judged(judge, [picture_of(8), picture_of(4)])
    assert [row.values["satisfied"] for row in rows] == [8 / 9, 4 / 9]
    assert [part in heard.body for heard in server.heard] == [True, False, False]


def test_a_mask_is_shown_and_a_picture_carries_nothing_but_its_pixels(tmp_path: Path) -> None:
    edited = picture_of(5)
    edited.info["comment"] = "taken at home"
    mask = picture_of(9).convert("L")
    with serving() as server:
        judge = judge_at(server.address, tmp_path)
        judge.judge(task_of(), TaskImages(picture_of(3), mask=mask), [edited], [1.0])
    [heard] = server.heard
    assert len(heard.pictures) == 3
    assert heard.texts[2] == "The mask (only what is white in it may change):"
    assert not any("comment" in picture.info for picture in heard.pictures)
