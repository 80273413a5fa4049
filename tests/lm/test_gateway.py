"""The gateway against a real server that misbehaves: what it pays, how often it tries, when it gives up."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest

from promptopt.core.budget import Budget
from promptopt.core.rollout import Failure
from promptopt.errors import BudgetExhausted, ConfigError, ModelDown
from promptopt.lm.gateway import Gateway
from promptopt.lm.local import LocalEndpoint
from promptopt.lm.message import CallFailed, Reply, Request, Scope
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings, Price
from promptopt.testing import faulty
from promptopt.testing.books import MemoryBook
from promptopt.testing.faulty import FaultyServer, reply

SIM = "openai/sim"
A_DOLLAR = Price(input=Decimal(1_000_000), output=Decimal(1_000_000))


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptopt.lm.retries.FIRST", 0.01)


def gateway(server: FaultyServer, book: MemoryBook, **settings: object) -> Gateway:
    settings = {"api_base": server.base_url, "timeout": 5, "max_tokens": 50, "price": A_DOLLAR, **settings}
    return Gateway({SIM: ModelSettings.model_validate(settings)}, book)


def ask(text: str = "hi", **params: object) -> Request:
    return Request(SIM, ({"role": "user", "content": text},), params)


SCOPE = Scope("program", "work")


@pytest.mark.parametrize(
    ("params", "row", "calls"),
    [({"temperature": 0}, "row", 1), ({"temperature": 0}, "", 2), ({"temperature": 0.7}, "row", 2), ({}, "row", 2)],
)
async def test_candidates_share_the_answers_of_a_row_where_these_are_no_samples(
    params: dict[str, object], row: str, calls: int
) -> None:
    async with FaultyServer(reply("north")) as server, gateway(server, MemoryBook()) as gate:
        for work in ("one", "other"):
            await gate.complete(ask(**params), Scope("program", work, row=row))
        assert server.calls == calls
        await gate.complete(ask(**params), Scope("program", "one", nth=1, row=row))
        assert server.calls == calls + 1


async def failure_of(gate: Gateway, request: Request | None = None, scope: Scope = SCOPE) -> Failure:
    with pytest.raises(CallFailed) as caught:
        await gate.complete(request or ask(), scope)
    return caught.value.failure


async def test_an_answer_is_paid_at_its_true_price() -> None:
    book = MemoryBook()
    async with FaultyServer(reply("north", tokens_in=11, tokens_out=3)) as server, gateway(server, book) as gate:
        answer = await gate.complete(ask(temperature=0), SCOPE)
    assert (answer.text, answer.finish_reason, answer.tokens_in, answer.tokens_out) == ("north", "stop", 11, 3)
    assert answer.usd == Decimal(14)
    assert answer.message == {"role": "assistant", "content": "north"}
    assert book.spent.usd == Decimal(14)
    assert book.spent.calls == 1
    assert server.bodies[0] == {
        "messages": [{"role": "user", "content": "hi"}], "model": "sim", "temperature": 0, "max_tokens": 50,
    }  # fmt: skip


async def test_a_finished_call_is_not_paid_again() -> None:
    book = MemoryBook()
    async with FaultyServer() as server:
        for _ in range(2):
            async with gateway(server, book) as gate:
                answer = await gate.complete(ask(), SCOPE)
    assert server.calls == 1
    assert answer.cached
    assert (book.spent.calls, book.spent.cached) == (1, 1)


async def test_equal_calls_at_the_same_time_share_one_flight() -> None:
    book = MemoryBook()
    async with FaultyServer(reply(seconds=0.05)) as server, gateway(server, book) as gate:
        answers = await asyncio.gather(*(gate.complete(ask(), SCOPE) for _ in range(5)))
    assert server.calls == 1
    assert {answer.text for answer in answers} == {"ok"}


async def test_a_shared_flight_survives_the_caller_that_started_it() -> None:
    book = MemoryBook()
    async with FaultyServer(reply(seconds=0.1)) as server, gateway(server, book) as gate:
        first = asyncio.create_task(gate.complete(ask(), SCOPE))
        second = asyncio.create_task(gate.complete(ask(), SCOPE))
        await asyncio.sleep(0.03)
        first.cancel()
        assert (await second).text == "ok"
    assert first.cancelled()


async def test_a_session_that_asks_twice_gets_two_answers_and_the_same_two_after_a_crash() -> None:
    book = MemoryBook()
    async with FaultyServer(reply("one"), reply("two")) as server, gateway(server, book) as gate:
        for _ in range(2):
            session = Session(gate, SCOPE, SIM)
            messages = [{"role": "user", "content": "a word"}]
            assert [(await session.complete(messages)).text for _ in range(2)] == ["one", "two"]
            assert [turn.reply for turn in session.trace] == ["one", "two"]
    assert server.calls == 2


async def test_other_work_never_gets_the_answer() -> None:
    async with FaultyServer(reply("one"), reply("two")) as server, gateway(server, MemoryBook()) as gate:
        first = await gate.complete(ask(), Scope("program", "this"))
        second = await gate.complete(ask(), Scope("program", "that"))
    assert (first.text, second.text) == ("one", "two")


async def test_a_rollout_that_asks_too_often_fails_before_the_call() -> None:
    async with FaultyServer() as server, gateway(server, MemoryBook()) as gate:
        session = Session(gate, SCOPE, SIM, max_calls=2)
        await session.complete([{"role": "user", "content": "1"}])
        await session.complete([{"role": "user", "content": "2"}])
        with pytest.raises(CallFailed, match="more than 2 model calls"):
            await session.complete([{"role": "user", "content": "3"}])
    assert server.calls == 2


PASSING = {
    "rate_limit": faulty.rate_limited(0.01),
    "server": faulty.server_error(),
    "timeout": faulty.hang(),
    "connection": faulty.hang_up(),
    "malformed": faulty.truncated_json(),
    "empty": faulty.empty(),
}


@pytest.mark.parametrize("kind", PASSING)
async def test_a_fault_that_passes_is_tried_again_and_no_more_than_n_times(kind: str) -> None:
    book = MemoryBook()
    timeout = 0.5 if kind == "timeout" else 10
    async with FaultyServer(PASSING[kind]) as server, gateway(server, book, retries=2, timeout=timeout) as gate:
        failure = await failure_of(gate)
        assert failure.kind == kind
        assert "tried 3 times" in failure.message
        assert server.calls == book.spent.calls == 3
        assert [each.kind for each in book.failures] == [kind] * 3
        server.script = [*[PASSING[kind]] * 5, reply("at last")]
        assert (await gate.complete(ask("again"), SCOPE)).text == "at last"
    assert server.calls == 6


FINAL = {
    "auth": faulty.refuse(403, "no"),
    "bad_request": faulty.refuse(400, "temperature must be below 2"),
    "not_found": faulty.refuse(404, "no such model"),
    "refusal": faulty.answer(faulty.completion(None, finish_reason="content_filter", usage=faulty.used(3, 1))),
}


@pytest.mark.parametrize("kind", FINAL)
async def test_a_fault_that_stays_is_tried_once(kind: str) -> None:
    async with FaultyServer(reply(), FINAL[kind]) as server, gateway(server, MemoryBook()) as gate:
        await gate.complete(ask("works"), SCOPE)
        assert (await failure_of(gate)).kind == kind
    assert server.calls == 2


MALFORMED = {
    "html": faulty.html(),
    "a list": faulty.answer([1, 2]),
    "null": faulty.answer(None),
    "no choices": faulty.answer({**faulty.completion("x", usage=faulty.used(1, 1)), "choices": []}),
    "no message": faulty.answer({"choices": [{"index": 0, "message": None}]}),
    "content is a number": faulty.answer(faulty.completion(5)),  # type: ignore[arg-type]
    "usage in words": faulty.answer(faulty.completion("x", usage={"prompt_tokens": "many", "completion_tokens": 1})),
    "an error with status 200": faulty.answer({"error": {"message": "boo", "code": 500}}),
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.filterwarnings("ignore:Pydantic serializer")
async def test_a_malformed_answer_is_a_typed_failure_and_charged_in_full(what: str) -> None:
    book = MemoryBook()
    async with FaultyServer(MALFORMED[what]) as server, gateway(server, book, retries=0) as gate:
        failure = await failure_of(gate)
    assert failure.kind == "malformed"
    assert "Traceback" not in failure.message
    assert "<html" not in failure.message
    assert book.entries[0].true == book.entries[0].worst


@pytest.mark.parametrize("behaviour", [faulty.hang(), faulty.drip(0.02), faulty.half_open()])
async def test_silence_drips_and_half_open_sockets_end_at_the_timeout(behaviour: faulty.Behaviour) -> None:
    book = MemoryBook()
    async with FaultyServer(behaviour) as server, gateway(server, book, retries=0, timeout=0.3) as gate:
        began = time.monotonic()
        assert (await failure_of(gate)).kind == "timeout"
        assert time.monotonic() - began < 2.0
    assert book.entries[0].true == book.entries[0].worst


async def test_all_tries_and_waits_end_at_the_deadline() -> None:
    limits = {"retries": 50, "timeout": 0.2, "deadline": 0.5}
    async with FaultyServer(faulty.hang()) as server, gateway(server, MemoryBook(), **limits) as gate:
        began = time.monotonic()
        assert (await failure_of(gate)).kind == "timeout"
        assert 0.4 < time.monotonic() - began < 2.0
    assert server.calls <= 3


async def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    async with FaultyServer(faulty.rate_limited(60)) as server, gateway(server, MemoryBook(), deadline=2) as gate:
        began = time.monotonic()
        assert (await failure_of(gate)).kind == "rate_limit"
        assert time.monotonic() - began < 1.0
    assert server.calls == 1


async def test_retry_after_is_honoured_and_shared_by_all_calls_of_the_model() -> None:
    async with FaultyServer(faulty.rate_limited(0.4), reply()) as server, gateway(server, MemoryBook()) as gate:
        began = time.monotonic()
        first = asyncio.create_task(gate.complete(ask("1"), SCOPE))
        await asyncio.sleep(0.2)
        assert server.calls == 1
        await gate.complete(ask("2"), SCOPE)
        assert time.monotonic() - began >= 0.4
        await first
    assert server.calls == 3


async def test_concurrency_adapts_to_what_the_server_bears() -> None:
    book = MemoryBook()
    crowded = faulty.crowded(4, reply(seconds=0.03))
    async with FaultyServer(crowded) as server, gateway(server, book, concurrency=32, timeout=30) as gate:
        answers = await asyncio.gather(*(gate.complete(ask(str(n)), SCOPE) for n in range(80)))
    assert len(answers) == 80
    assert {failure.kind for failure in book.failures} == {"rate_limit"}
    assert len(book.failures) < 80


async def test_refused_connections_cost_a_call_but_no_tokens() -> None:
    book = MemoryBook()
    async with FaultyServer() as server:
        gate = gateway(server, book, retries=0)
    failure = await failure_of(gate)
    assert failure.kind == "connection"
    assert "connection refused" in failure.message
    assert (book.spent.calls, book.spent.tokens) == (1, 0)


@pytest.mark.parametrize(
    ("behaviour", "billed"), [(faulty.rate_limited(), 0), (faulty.hang(), 1), (faulty.hang_up(), 1)]
)
async def test_a_lost_try_costs_its_worst_case_and_a_refused_one_no_tokens(
    behaviour: faulty.Behaviour, billed: int
) -> None:
    book = MemoryBook()
    async with FaultyServer(behaviour) as server, gateway(server, book, retries=0, timeout=1) as gate:
        await failure_of(gate)
    assert book.spent.tokens == billed * book.entries[0].worst.tokens


async def test_a_cancelled_call_costs_its_worst_case() -> None:
    book = MemoryBook()
    async with FaultyServer(faulty.hang()) as server, gateway(server, book) as gate:
        call = asyncio.create_task(gate.complete(ask(), SCOPE))
        await server.called.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert book.spent == book.entries[0].worst
    assert book.account.reserved.calls == 0


@pytest.mark.parametrize("usage", [None, faulty.used(0, 0), faulty.used(-5, -3)])
async def test_missing_or_impossible_usage_counts_at_the_worst_case(usage: dict[str, int] | None) -> None:
    book = MemoryBook()
    answer = faulty.answer(faulty.completion("yes", usage=usage))
    async with FaultyServer(answer) as server, gateway(server, book) as gate:
        await gate.complete(ask(), SCOPE)
    assert book.spent == book.entries[0].worst


async def test_tokens_that_only_the_total_mentions_are_paid_for() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 40}
    answer = faulty.answer(faulty.completion("yes", usage=usage))
    async with FaultyServer(answer) as server, gateway(server, MemoryBook()) as gate:
        assert (await gate.complete(ask(), SCOPE)).tokens_out == 30


@pytest.mark.parametrize(
    "params", [{"max_tokens": -1}, {"max_tokens": "9"}, {"n": 3}, {"stream": True}, {"num_retries": 9}]
)
async def test_a_request_without_a_bound_is_refused_before_it_is_sent(params: dict[str, object]) -> None:
    async with FaultyServer() as server, gateway(server, MemoryBook()) as gate:
        assert (await failure_of(gate, ask(**params))).kind == "bad_request"
    assert server.calls == 0


@pytest.mark.parametrize(
    "behaviour", [faulty.out_of_funds(), faulty.refuse(429, "Budget limit exceeded for workspace")]
)
async def test_a_refusal_for_lack_of_funds_stops_at_once(behaviour: faulty.Behaviour) -> None:
    async with FaultyServer(reply(), behaviour) as server, gateway(server, MemoryBook()) as gate:
        await gate.complete(ask("works"), SCOPE)
        with pytest.raises(ModelDown, match="Raise the account's limit"):
            await gate.complete(ask(), SCOPE)
    assert server.calls == 2


async def test_a_key_in_an_error_never_reaches_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_KEY", "hunter2-very-secret")
    echo = "hunter2-very-secret and sk-proj-abcdefghijkl and Bearer abc.def.ghi"
    book = MemoryBook()
    async with FaultyServer(faulty.unauthorized(echo)) as server, gateway(server, book, api_key_env="SIM_KEY") as gate:
        with pytest.raises(ModelDown, match="api_key_env") as caught:
            await gate.complete(ask(), SCOPE)
    said = f"{caught.value} {book.failures} {caught.value.__context__} {caught.value.__cause__}"
    for secret in ("hunter2", "abcdefghijkl", "abc.def.ghi"):
        assert secret not in said


async def test_the_key_of_another_provider_is_not_sent_to_a_custom_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-real-one")
    seen: list[str | None] = []

    async def look(request: faulty.web.Request, body: faulty.Body) -> faulty.web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return await reply()(request, body)

    async with FaultyServer(look) as server, gateway(server, MemoryBook()) as gate:
        await gate.complete(ask(), SCOPE)
    assert seen == ["Bearer none"]


OTHERS = ["anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "hosted_vllm/sim"]


@pytest.mark.parametrize("model", OTHERS)
async def test_other_providers_faults_are_read_alike(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_KEY", "hunter2-very-secret")
    faults = {**PASSING, "malformed": faulty.html(), "bad_request": faulty.refuse(400, "no")}
    del faults["empty"], faults["timeout"]
    book = MemoryBook()
    async with FaultyServer(*faults.values()) as server:
        settings = ModelSettings(api_base=server.base_url, api_key_env="SIM_KEY", timeout=9, retries=0, concurrency=1)
        async with Gateway({model: settings}, book) as gate:
            for n in range(len(faults)):
                await failure_of(gate, Request(model, ({"role": "user", "content": str(n)},)))
    assert [failure.kind for failure in book.failures] == list(faults)
    costs = {entry.outcome.kind: entry.true for entry in book.entries if isinstance(entry.outcome, Failure)}
    free = {kind for kind, true in costs.items() if true is not None and true.tokens == 0}
    assert free == {"rate_limit", "server", "bad_request"}


async def test_a_missing_key_variable_is_named() -> None:
    async with FaultyServer() as server, gateway(server, MemoryBook(), api_key_env="NO_SUCH_KEY") as gate:
        with pytest.raises(ConfigError, match="NO_SUCH_KEY, which is not set"):
            await gate.complete(ask(), SCOPE)


@pytest.mark.parametrize("behaviour", [faulty.unauthorized("x"), faulty.refuse(404, "model not found")])
async def test_a_model_that_never_worked_stops_the_run_at_the_first_refusal(behaviour: faulty.Behaviour) -> None:
    async with FaultyServer(behaviour) as server, gateway(server, MemoryBook(), concurrency=1) as gate:
        calls = [gate.complete(ask(str(n)), SCOPE) for n in range(10)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, ModelDown) for outcome in outcomes)
    assert f"{SIM} at {server.base_url} refuses every call" in str(outcomes[0])
    assert server.calls == 1


async def test_eight_lost_calls_in_a_row_stop_the_run() -> None:
    async with FaultyServer() as server:
        gate = gateway(server, MemoryBook(), retries=1)
    for n in range(7):
        await failure_of(gate, ask(str(n)))
    with pytest.raises(ModelDown, match=r"has not answered 8 calls in a row \(cannot connect \(connection refused\)\)"):
        await gate.complete(ask("8"), SCOPE)


async def test_an_answer_in_between_keeps_the_run_going() -> None:
    lost = [faulty.server_error()] * 7
    script = [*lost, reply(), *lost, reply()]
    async with FaultyServer(*script) as server, gateway(server, MemoryBook(), retries=0, concurrency=1) as gate:
        calls = [gate.complete(ask(str(n)), SCOPE) for n in range(16)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 2
    assert not any(isinstance(outcome, ModelDown) for outcome in outcomes)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def with_schema(text: str) -> Request:
    return Request(SIM, ({"role": "user", "content": text},), {}, SCHEMA)


async def test_a_schema_is_sent_and_a_refusal_of_it_is_remembered() -> None:
    refusal = faulty.refuse(400, "response_format json_schema is not supported")
    book = MemoryBook()
    async with FaultyServer(refusal, reply("{}")) as server, gateway(server, book, retries=0) as gate:
        await gate.complete(with_schema("1"), SCOPE)
        await gate.complete(with_schema("2"), SCOPE)
    sent = [body.get("response_format") for body in server.bodies]
    assert sent[0]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert sent[1:] == [None, None]
    assert book.spent.calls == 3


@pytest.mark.parametrize(("setting", "sent"), [(True, True), (False, False)])
async def test_the_user_decides_whether_a_schema_is_sent(setting: bool, sent: bool) -> None:
    async with FaultyServer() as server, gateway(server, MemoryBook(), json_schema=setting) as gate:
        await gate.complete(with_schema("1"), SCOPE)
    assert ("response_format" in server.bodies[0]) is sent


CAPS = [Budget(calls=100), Budget(tokens=2500), Budget(usd=2500)]


@pytest.mark.parametrize("budget", CAPS)
async def test_sixty_four_calls_at_the_edge_of_a_cap_never_pass_it_and_use_most_of_it(budget: Budget) -> None:
    book = MemoryBook(budget)
    slow = reply(seconds=0.01, tokens_in=20, tokens_out=5)
    async with FaultyServer(slow) as server, gateway(server, book, max_tokens=20, concurrency=64) as gate:
        calls = [gate.complete(ask(str(n)), SCOPE) for n in range(200)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert server.calls == 100 if budget.calls else 85 <= server.calls <= 100
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == server.calls
    assert {type(outcome) for outcome in outcomes} == {Reply, BudgetExhausted}
    assert book.account.budget.over(book.spent, book.spent) is None
    assert server.max_in_flight > 8


async def test_older_steps_go_first() -> None:
    async with FaultyServer(reply(seconds=0.02)) as server, gateway(server, MemoryBook(), concurrency=1) as gate:
        steps = [0, 5, 3, 4, 3, 1]
        await asyncio.gather(
            *(gate.complete(ask(f"{n} {step}"), Scope("program", str(n), step)) for n, step in enumerate(steps))
        )
    asked = [body["messages"][0]["content"] for body in server.bodies]
    assert asked == ["0 0", "5 1", "2 3", "4 3", "3 4", "1 5"]


async def test_a_storm_of_faults_ends_with_every_call_answered_and_no_retry_beyond_n() -> None:
    broken = [faulty.html(), faulty.truncated_json(), faulty.empty()]
    kinds = [faulty.rate_limited(0.05), faulty.server_error(), faulty.hang(), *broken]
    book = MemoryBook()
    storm = faulty.sometimes(dict.fromkeys(kinds, 0.05), reply(seconds=0.01))
    async with FaultyServer(storm) as server, gateway(server, book, retries=8, timeout=2, concurrency=16) as gate:
        answers = await asyncio.gather(*(gate.complete(ask(str(n)), SCOPE) for n in range(60)))
    assert len(answers) == 60
    assert server.calls <= book.spent.calls == 60 + len(book.failures)
    tries = [body["messages"][0]["content"] for body in server.bodies]
    assert max(tries.count(text) for text in set(tries)) <= 9


async def test_local_models_go_to_their_own_server_without_a_price() -> None:
    async with FaultyServer(reply(seconds=0.05)) as server:

        class Local:
            async def serve(self, name: str) -> LocalEndpoint:
                assert name == "smollm2-135m"
                return LocalEndpoint(server.base_url, 2, "secret")

        book = MemoryBook()
        async with Gateway({}, book, Local()) as gate:
            requests = [Request("local/smollm2-135m", ({"role": "user", "content": str(n)},)) for n in range(6)]
            await asyncio.gather(*(gate.complete(request, SCOPE) for request in requests))
    assert server.max_in_flight == 2
    assert book.spent.usd == 0
    assert server.bodies[0]["model"] == "smollm2-135m"


async def test_a_local_model_without_the_runtime_says_what_to_install() -> None:
    async with Gateway({}, MemoryBook()) as gate:
        with pytest.raises(ConfigError, match="promptopt-engine\\[local\\]"):
            await gate.complete(Request("local/smollm2-135m", ({"role": "user", "content": "hi"},)), SCOPE)


async def test_text_that_is_no_text_is_refused_without_a_second_try() -> None:
    async with FaultyServer() as server, gateway(server, MemoryBook()) as gate:
        session = Session(gate, SCOPE, SIM)
        with pytest.raises(CallFailed, match="half a surrogate pair"):
            await session.complete([{"role": "user", "content": "\ud800"}])
    assert server.calls == 0
