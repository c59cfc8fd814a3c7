"""Servers that answer wrongly, late, or not at all: no wrong score, no crash, no endless asking."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eacps import log
from eacps.errors import ScoringError
from eacps.images import TaskImages
from eacps.verifiers.language import transport
from eacps.verifiers.language.asking import Asker, NoAnswerError, Place
from eacps.verifiers.language.breaker import FAILURES, FIRST_SECONDS, LONGEST_SECONDS, Breaker
from eacps.verifiers.language.options import ServerOptions
from eacps.verifiers.language.services.contract import Question
from eacps.verifiers.language.services.openai_chat import OpenAIChat
from eacps.verifiers.language.storage import Account, Storage
from eacps.verifiers.scorer import VerifierScorer
from tests.judge_server import (
    BODIES,
    FAULTS,
    REFUSES,
    WRITTEN,
    Heard,
    JudgeServer,
    picture_of,
    serving,
)
from tests.unit.verifiers.language.judges import (
    IMAGES,
    KEY,
    SERVICES,
    SOURCE,
    judge_at,
    judged,
    task_of,
)

ACCOUNT = Account("task", "project", "judge")
QUESTION = Question("", ("Which?",), {}, max_tokens=9)


class Waits(list[float]):
    """Instead of sleeping: how long it would have been."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def asker_at(address: str, folder: Path, waits: Waits, **options: Any) -> Asker:
    place = Place(OpenAIChat(), "tiny", address, KEY, "openai:tiny")
    storage = Storage(folder, keep_days=1, limits={})
    given = ServerOptions.model_validate({"timeout_seconds": 60} | options)
    return Asker(place, given, storage, sleep=waits, chance=lambda: 0.0)


def always(fault: str) -> Callable[[Heard], str]:
    return lambda _: fault


def first_times(fault: str, count: int) -> Callable[[Heard], str]:
    """This fault for the first requests; then the truth."""
    left = iter([fault] * count)
    return lambda _: next(left, "")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_answer_is_a_missing_value_with_its_reason(
    fault: str, service: str, tmp_path: Path
) -> None:
    broken = picture_of(2)

    def fault_for(heard: Heard) -> str:
        return fault if heard.score == 2 else ""

    with serving(JudgeServer(fault=fault_for)) as server:
        judge = judge_at(server.address, tmp_path, service)
        first, wrong, last = judged(judge, [picture_of(8), broken, picture_of(5)])
    assert (first.values["satisfied"], last.values["satisfied"]) == (8 / 9, 5 / 9)
    assert dict(wrong.values) == {}
    assert "missing: " in wrong.why or "No answer: " in wrong.why


@pytest.mark.parametrize("fault", sorted({*BODIES, "not_json", "no_choices", "short_body"}))
def test_an_unreadable_answer_is_asked_for_again(fault: str, tmp_path: Path) -> None:
    with serving(JudgeServer(fault=first_times(fault, 1))) as server:
        [row] = judged(judge_at(server.address, tmp_path), [picture_of(8)])
    assert row.values["satisfied"] == 8 / 9
    assert len(server.heard) == 2


def test_an_answer_that_was_cut_off_gets_more_room(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=first_times("length", 1))) as server:
        [row] = judged(judge_at(server.address, tmp_path, max_tokens=100), [picture_of(8)])
    assert row.values["satisfied"] == 8 / 9
    assert [heard.body["max_completion_tokens"] for heard in server.heard] == [100, 400]


def test_a_refusal_is_said_and_not_argued_with(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=always("declines"))) as server:
        judge = judge_at(server.address, tmp_path)
        with pytest.raises(ScoringError, match=r"it declined \(I cannot help with that\)\."):
            judged(judge, [picture_of(8)])
    assert len(server.heard) == 1


def test_a_thousand_wrong_answers_of_every_kind_make_no_wrong_score(tmp_path: Path) -> None:
    chance = random.Random(7)
    faults: dict[bytes, list[str]] = {}
    given: Counter[str] = Counter()
    lock = threading.Lock()

    def fault_for(heard: Heard) -> str:
        # A picture's faults stay for some requests, and then pass.
        with lock:
            left = faults.setdefault(heard.pictures[1].tobytes(), _faults(chance))
            fault = left.pop(0) if left else ""
            given[fault] += 1
        return fault

    wrong, right, missing = [], 0, 0
    with serving(JudgeServer(fault=fault_for)) as server:
        judge = judge_at(server.address, tmp_path, attempts=2)
        height = 16
        while sum(given.values()) - given[""] < 1000:
            height += 1
            judge._asker._breaker.succeeded()
            scores = [chance.randrange(10) for _ in range(24)]
            edited = [picture_of(score, (40, height)) for score in scores]
            for number, image in enumerate(edited):
                image.putpixel((0, 0), (number, 0, 0))
            images = TaskImages(picture_of(3, (40, height)))
            rows = judge.judge(task_of(f"task {height}"), images, edited, [1.0] * len(edited))
            for score, row in zip(scores, rows, strict=True):
                found = row.values.get("satisfied")
                if found not in (None, score / 9):
                    wrong.append((score, row))
                right += found is not None
                missing += found is None
                assert found is not None or row.why
    assert wrong == []
    assert right > 100
    assert missing > 100
    assert set(given) == {"", *FAULTS}
    assert len(FAULTS) >= 12


def _faults(chance: random.Random) -> list[str]:
    kind = chance.choice(FAULTS)
    return [kind] * chance.choice([0, 1, 1, 2, 6])


def test_waits_grow_and_vary_and_a_servers_own_wish_counts(tmp_path: Path) -> None:
    waits = Waits()
    with serving(JudgeServer(fault=always("unavailable"))) as server:
        asker = asker_at(server.address, tmp_path, waits, attempts=4)
        with pytest.raises(NoAnswerError, match="answers 503: unavailable, sorry"):
            asker.ask(QUESTION, ACCOUNT)
        assert waits == [0.5, 1.0, 2.0]
        waits.clear()
        server.retry_after = "7"
        with pytest.raises(NoAnswerError):
            asker.ask(QUESTION, ACCOUNT)
        assert waits == [7.0, 7.0, 7.0]


def test_a_server_that_wants_to_be_left_alone_for_long_is(tmp_path: Path) -> None:
    waits = Waits()
    with serving(JudgeServer(fault=always("rate_limited"), retry_after="900")) as server:
        asker = asker_at(server.address, tmp_path, waits)
        for _ in range(3):
            with pytest.raises(NoAnswerError) as caught:
                asker.ask(QUESTION, ACCOUNT)
            assert caught.value.down
        assert "it is asked again in 900 s" in caught.value.reason
    assert waits == []
    assert len(server.heard) == 1


def test_a_server_that_is_down_is_left_alone_and_found_again(tmp_path: Path) -> None:
    now = [1000.0]
    with serving() as server:
        address = server.address
        port = int(address.rpartition(":")[2])
    judge = judge_at(address, tmp_path, attempts=1, concurrency=1)
    judge._asker._breaker = Breaker(clock=lambda: now[0])
    with pytest.raises(ScoringError, match="no connection"):
        judged(judge, [picture_of(score) for score in range(10)])
    with serving(port=port) as server:
        with pytest.raises(ScoringError, match=r"no connection; it is asked again in 30 s\."):
            judged(judge, [picture_of(8)])
        assert server.heard == []
        now[0] += FIRST_SECONDS + 1
        [row] = judged(judge, [picture_of(8)])
    assert row.values["satisfied"] == 8 / 9


def test_the_breaker_tries_once_after_its_pause_and_pauses_longer() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for _ in range(FAILURES):
        assert breaker.refusal() == ""
        breaker.failed("away")
    pauses = []
    for _ in range(8):
        assert breaker.refusal().startswith("away; it is asked again in")
        start = now[0]
        while breaker.refusal():
            now[0] += 1
        pauses.append(now[0] - start)
        assert breaker.refusal()
        breaker.failed("away")
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]
    assert LONGEST_SECONDS == 600
    breaker.succeeded()
    assert breaker.refusal() == ""


def test_a_wrong_key_is_said_once_and_shown_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with serving(JudgeServer(key="another-key")) as server:
        judge = judge_at(server.address, tmp_path, concurrency=1)
        with pytest.raises(ScoringError) as caught:
            judged(judge, [picture_of(score) for score in range(4)])
    assert "it refuses the key: Incorrect API key provided: Bearer [key]" in str(caught.value)
    assert len(server.heard) == 1
    shown = f"{caught.value!r} {caplog.text} {judge._asker._place.address}"
    assert KEY not in shown
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*.sqlite*"))


def test_a_server_that_quotes_the_key_in_its_reasons_does_not_get_it_onto_cards(
    tmp_path: Path,
) -> None:
    def say(heard: Heard) -> str:
        said = heard.headers["authorization"]
        return f'{{"satisfied": {{"reason": "{said}", "score": 5}}}}'

    with serving(JudgeServer(say=say)) as server:
        [row] = judged(judge_at(server.address, tmp_path), [picture_of(5)])
    assert "Bearer [key]" in row.why
    assert KEY not in row.why


def test_slow_servers_time_out_and_answers_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(JudgeServer(fault=always("slow"))) as server:
        judge = judge_at(server.address, tmp_path, timeout_seconds=0.2, attempts=1)
        with pytest.raises(ScoringError, match=r"no answer within 0\.2 s\."):
            judged(judge, [picture_of(8)])
    monkeypatch.setattr(transport, "MAX_BYTES", 100)
    with serving() as server:
        judge = judge_at(server.address, tmp_path, attempts=1)
        with pytest.raises(ScoringError, match="more than 100 bytes"):
            judged(judge, [picture_of(8)])


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with serving() as elsewhere, serving(JudgeServer(moved_to=elsewhere.address)) as server:
        judge = judge_at(server.address, tmp_path)
        with pytest.raises(ScoringError, match="it answers 307"):
            judged(judge, [picture_of(8)])
    assert (len(server.heard), len(elsewhere.heard)) == (1, 0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("1e9", 3600.0),
        ("nan", 0.0),
    ],
)
def test_retry_after_is_seconds_or_nothing(header: str, seconds: float) -> None:
    assert transport.retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert transport.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert transport.retry_after("Wed, 21 Oct 2093 07:28:00 GMT") == 3600.0


def test_no_more_requests_at_once_than_allowed(tmp_path: Path) -> None:
    with serving() as server:
        judge = judge_at(server.address, tmp_path, concurrency=3)
        judged(judge, [picture_of(score) for score in range(10)])
    assert 1 <= server.busiest <= 3
    assert len(server.heard) == 10


def test_the_same_question_is_not_asked_again_even_by_another_process(tmp_path: Path) -> None:
    pictures = [picture_of(score) for score in range(5)]
    with serving(JudgeServer(gives_logprobs=True)) as server:
        before = judged(judge_at(server.address, tmp_path), pictures)
        after = judged(judge_at(server.address, tmp_path), pictures)
        assert len(server.heard) == 5
        assert after == before
        judged(judge_at(server.address, tmp_path), pictures, "another instruction")
        judged(judge_at(server.address, tmp_path, image_side=64), pictures)
        judged(judge_at(server.address, tmp_path, way="pointwise"), pictures)
    assert len(server.heard) == 5 + 5 + 0 + 5


def test_nothing_missing_is_kept(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=first_times("other_questions", 2))) as server:
        judge = judge_at(server.address, tmp_path)
        assert judged(judge, [picture_of(8)])[0].values == {}
        assert judged(judge, [picture_of(8)])[0].values["satisfied"] == 8 / 9
    assert len(server.heard) == 3


def test_tokens_are_those_of_the_server(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=first_times("prose", 3))) as server:
        judge = judge_at(server.address, tmp_path, price_read=2, price_written=10, concurrency=1)
        judged(judge, [picture_of(score) for score in range(5)])
    [total] = Storage(tmp_path, keep_days=1, limits={}).totals()
    assert (total["read"], total["written"]) == (server.read, server.written)
    assert total["calls"] == len(server.heard) == 7
    assert total["cost"] == pytest.approx((server.read * 2 + server.written * 10) / 1e6)
    assert server.written == 7 * WRITTEN


@pytest.mark.parametrize(
    ("limit", "calls"),
    [
        ({"calls_per_task": 3}, 3),
        ({"calls_per_day": 3}, 3),
        ({"calls_per_project": 3}, 3),
        ({"tokens_per_task": 500}, 2),
        ({"cost_per_day": 0.0005}, 2),
    ],
)
def test_a_limit_ends_the_asking_politely(
    limit: dict[str, float], calls: int, tmp_path: Path
) -> None:
    with serving() as server:
        judge = judge_at(
            server.address,
            tmp_path,
            settings={"judge_limits": limit},
            price_read=1,
            price_written=1,
            concurrency=1,
        )
        rows = judged(judge, [picture_of(score) for score in range(6)])
        assert [bool(row.values) for row in rows] == [place < calls for place in range(6)]
        name = next(iter(limit))
        assert f"{name} is {limit[name]:g} (EACPS_JUDGE_LIMITS), and is reached" in rows[-1].why
        # What is known is still answered.
        assert judged(judge, [picture_of(0)])[0].values
    assert len(server.heard) == calls


def test_limits_per_project_count_the_project_that_is_worked_for(tmp_path: Path) -> None:
    with serving() as server:
        limits = {"judge_limits": {"calls_per_project": 2}}
        judge = judge_at(server.address, tmp_path, settings=limits, concurrency=1)
        scorer = VerifierScorer({"m": judge})
        for project, scores in ((7, (1, 2, 3)), (8, (4, 5))):
            with log.ids(project=project):
                edited = [picture_of(score) for score in scores]
                rows = scorer.score(task_of(), IMAGES, edited, [1.0] * len(edited))
            assert [bool(row) for row in rows] == [True, True, False][: len(scores)]
    totals = Storage(tmp_path, keep_days=1, limits={}).totals()
    assert [(total["project"], total["calls"]) for total in totals] == [("7", 2), ("8", 2)]


def test_limits_hold_for_calls_at_once(tmp_path: Path) -> None:
    with serving() as server:
        judge = judge_at(
            server.address, tmp_path, settings={"judge_limits": {"calls_per_day": 4}}, concurrency=8
        )
        rows = judged(judge, [picture_of(score) for score in range(9)])
    assert len(server.heard) == 4
    assert sum(bool(row.values) for row in rows) == 4


def test_where_the_account_cannot_be_kept_judging_goes_on_but_limits_refuse(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with serving() as server:
        [row] = judged(judge_at(server.address, blocked), [picture_of(8)])
        assert row.values["satisfied"] == 8 / 9
        limited = judge_at(server.address, blocked, settings={"judge_limits": {"calls_per_day": 4}})
        with pytest.raises(ScoringError, match="what was spent cannot be read"):
            judged(limited, [picture_of(8)])
    assert len(server.heard) == 1


def test_a_judge_that_is_down_is_left_out_of_the_mean_and_named(tmp_path: Path) -> None:
    with serving() as server, serving(JudgeServer(fault=always("broken"))) as other:
        scorer = VerifierScorer(
            {
                "up": judge_at(server.address, tmp_path),
                "away": judge_at(other.address, tmp_path, attempts=1),
            }
        )
        rows = scorer.explained(task_of(), IMAGES, [picture_of(8), picture_of(3)], [1.0, 1.0])
    assert [scores["satisfied"] for scores, _ in rows] == [8 / 9, 3 / 9]
    assert "No answer from away: it answers 500: broken, sorry." in rows[0][1]


def test_judges_are_asked_at_the_same_time(tmp_path: Path) -> None:
    meeting = threading.Barrier(3)

    def meet(_: Heard) -> str:
        # It only ends when all three judges are here.
        meeting.wait(60)
        return ""

    with serving(JudgeServer(fault=meet)) as server:
        judges = {
            name: judge_at(server.address, tmp_path / name) for name in ("one", "two", "three")
        }
        scorer = VerifierScorer(judges, {"one": 2.0})
        [(scores, _)] = scorer.explained(task_of(), IMAGES, [picture_of(6)], [1.0])
    assert scores["satisfied"] == pytest.approx(6 / 9)


def test_refused_kinds_are_known() -> None:
    assert set(REFUSES) <= set(FAULTS)
    assert SOURCE.size == (48, 32)
