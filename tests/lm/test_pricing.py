"""What a call costs, what it may cost at most, and which models cannot be called."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.errors import ConfigError
from promptopt.lm.message import Request
from promptopt.lm.pricing import check_model, input_bound, price, priced, require_price, spend, worst_case
from promptopt.lm.provider import load_litellm
from promptopt.lm.settings import ModelSettings, Price

PLAIN = ModelSettings()
CUSTOM = Price(input=Decimal("0.5"), output=Decimal(2))


def ask(text: str, **params: object) -> Request:
    return Request("openai/gpt-4o", ({"role": "user", "content": text},), params)


def test_the_users_price_comes_before_the_table() -> None:
    assert price("openai/gpt-4o", ModelSettings(price=CUSTOM)) == CUSTOM
    assert price("local/smollm2-135m", ModelSettings(price=CUSTOM)) == CUSTOM


def test_a_listed_model_costs_what_litellm_lists() -> None:
    listed = load_litellm().model_cost["gpt-4o"]
    found = price("openai/gpt-4o", PLAIN)
    assert found is not None
    assert float(found.input) == pytest.approx(listed["input_cost_per_token"] * 1e6)
    assert float(found.output) == pytest.approx(listed["output_cost_per_token"] * 1e6)


def test_local_models_are_free_and_unlisted_ones_unknown() -> None:
    free = price("local/smollm2-135m", PLAIN)
    assert free is not None
    assert (free.input, free.output) == (0, 0)
    assert price("openai/nobody-lists-this", PLAIN) is None


def test_what_a_local_model_costs_is_only_known_from_the_user() -> None:
    a_dollar = ModelSettings(price=Price(input=Decimal(1), output=Decimal(1)))
    models = ("local/smollm2-135m", "openai/sim", "openai/gpt-4o")
    assert [priced(model, PLAIN) for model in models] == [False, False, True]
    assert [priced(model, a_dollar) for model in models] == [True, True, True]


def test_long_inputs_cost_the_higher_tier() -> None:
    table = load_litellm().model_cost
    name, tier = next(
        (name, key)
        for name, row in table.items()
        for key in row
        if key == "input_cost_per_token_above_200k_tokens" and row.get("mode") == "chat" and "/" in name
    )
    short, long = price(name, PLAIN, 200_000), price(name, PLAIN, 200_001)
    assert short is not None
    assert long is not None
    assert float(short.input) == pytest.approx(table[name]["input_cost_per_token"] * 1e6)
    assert float(long.input) == pytest.approx(table[name][tier] * 1e6)


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
def test_a_price_is_never_below_litellms_own_reckoning(model: str) -> None:
    cost_in, cost_out = load_litellm().cost_per_token(model=model, prompt_tokens=1000, completion_tokens=500)
    assert float(spend(price(model, PLAIN, 1000), 1000, 500).usd) >= (cost_in + cost_out) * (1 - 1e-9)


def test_input_from_the_providers_cache_costs_what_the_provider_takes_for_it() -> None:
    listed, own = price("openai/gpt-4o", PLAIN), CUSTOM.model_copy(update={"cached": Decimal("0.1")})
    cached = load_litellm().model_cost["gpt-4o"]["cache_read_input_token_cost"]
    assert float(spend(listed, 1000, 0, cached_in=1000).usd) == pytest.approx(1000 * cached)
    assert spend(own, 1000, 0, cached_in=400).usd == (600 * own.input + 400 * Decimal("0.1")) / 1_000_000
    assert spend(CUSTOM, 1000, 0, cached_in=400).usd == spend(CUSTOM, 1000, 0).usd
    dear, request = CUSTOM.model_copy(update={"cached": Decimal(9)}), ask("hello", max_tokens=8)
    tokens = input_bound(request)
    assert worst_case(request, ModelSettings(price=dear)).usd == spend(dear, tokens, 8, cached_in=tokens).usd


def test_an_unpriced_model_under_a_dollar_cap_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"lms\.openai/nobody-lists-this\.price"):
        require_price("openai/nobody-lists-this", PLAIN, capped=True)
    require_price("openai/nobody-lists-this", PLAIN, capped=False)
    require_price("openai/gpt-4o", PLAIN, capped=True)
    require_price("openai/nobody-lists-this", ModelSettings(price=CUSTOM), capped=True)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
@settings(max_examples=60)
def test_no_tokenizer_makes_more_tokens_than_the_bound(text: str) -> None:
    tokens = load_litellm().token_counter(model="gpt-4o", messages=[{"role": "user", "content": text}])
    assert tokens <= input_bound(ask(text))


@pytest.mark.parametrize("name", ["tools", "functions", "response_format"])
def test_tools_and_schemas_are_part_of_the_bound(name: str) -> None:
    body = [{"type": "function", "function": {"name": "f", "description": "long " * 500}}]
    assert input_bound(ask("hi", **{name: body})) >= input_bound(ask("hi")) + len(json.dumps(body))


def test_a_schema_is_part_of_the_bound() -> None:
    schema = {"type": "object", "description": "long " * 500}
    request = Request("openai/gpt-4o", ask("hi").messages, {}, schema)
    assert input_bound(request) >= input_bound(ask("hi")) + len(json.dumps(schema)) - len("null")


def test_a_picture_named_by_its_address_counts_for_what_it_may_take() -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/p.png"}}
    request = Request("openai/gpt-4o", ({"role": "user", "content": [{"type": "text", "text": "what?"}, picture]},))
    assert 50_000 < input_bound(request) < 51_000


@pytest.mark.parametrize(
    ("params", "most"),
    [({}, 1024), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 9}, 9), ({"max_tokens": None}, 1024)],
)
def test_the_output_bound_is_what_the_call_allows_itself(params: dict[str, object], most: int) -> None:
    assert worst_case(ask("hi", **params), PLAIN).tokens_out == most


def test_the_worst_case_in_dollars_is_exact() -> None:
    worst = worst_case(ask("hi", max_tokens=3), ModelSettings(price=CUSTOM))
    assert worst.usd == (Decimal("0.5") * worst.tokens_in + 2 * 3) / Decimal(1_000_000)
    assert worst.calls == 1


@pytest.mark.parametrize("model", ["gpt-nobody-knows", "nobody/knows", "Opus!"])
def test_an_unknown_name_is_refused_with_the_form_of_a_good_one(model: str) -> None:
    with pytest.raises(ConfigError, match="provider/model"):
        check_model(model, PLAIN)


def test_a_missing_key_is_named_before_anything_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("SIM_KEY", raising=False)
    with pytest.raises(ConfigError, match="set OPENAI_API_KEY, or name"):
        check_model("openai/gpt-4o", PLAIN)
    with pytest.raises(ConfigError, match="SIM_KEY, which is not set"):
        check_model("openai/gpt-4o", ModelSettings(api_key_env="SIM_KEY"))
    monkeypatch.setenv("SIM_KEY", "x")
    check_model("openai/gpt-4o", ModelSettings(api_key_env="SIM_KEY"))


@pytest.mark.parametrize(
    ("model", "given"),
    [("openai/sim", {"api_base": "http://127.0.0.1:1/v1"}), ("local/smollm2-135m", {}), ("ollama/llama3", {})],
)
def test_models_that_need_no_key_pass(model: str, given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    check_model(model, ModelSettings.model_validate(given))
