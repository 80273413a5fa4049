"""Caps: what is reserved, settled and set aside."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.budget import Account, Budget, Spend, as_before

amounts = st.integers(0, 50)
spends = st.builds(Spend, rollouts=amounts, calls=amounts, tokens_in=amounts, tokens_out=amounts,
                   usd=st.decimals(0, 5, places=4))  # fmt: skip


@given(spends, spends)
def test_subtraction_undoes_addition(one: Spend, other: Spend) -> None:
    assert one + other - other == one


@given(st.lists(st.tuples(spends, st.floats(0, 1)), max_size=30), st.integers(1, 200))
def test_settled_spend_never_passes_a_cap_while_reservations_hold(calls: list[tuple[Spend, float]], cap: int) -> None:
    account = Account(Budget(tokens=cap, calls=cap))
    for worst, share in calls:
        if account.room(worst) != "yes":
            continue
        account.reserve(worst)
        true = Spend(calls=worst.calls, tokens_in=int(worst.tokens_in * share), tokens_out=worst.tokens_out)
        account.settle(worst, true)
        assert account.spent.tokens <= cap
        assert account.spent.calls <= cap
    assert account.reserved == Spend()


def test_a_call_waits_while_others_may_return_room_and_is_refused_when_none_will() -> None:
    account = Account(Budget(tokens=100))
    account.reserve(Spend(tokens_in=80))
    assert account.room(Spend(tokens_in=30)) == "wait"
    assert account.room(Spend(tokens_in=130)) == "never"
    account.settle(Spend(tokens_in=80), Spend(tokens_in=10))
    assert account.room(Spend(tokens_in=30)) == "yes"


def test_what_is_set_aside_is_out_of_reach_until_it_is_released() -> None:
    account = Account(Budget(usd=1.0))
    account.set_aside(Spend(usd=Decimal("0.7")))
    assert account.room(Spend(usd=Decimal("0.4"))) == "never"
    account.release()
    assert account.room(Spend(usd=Decimal("0.4"))) == "yes"


@pytest.mark.parametrize("caps", [{"rollouts": 0}, {"usd": -1.0}, {"minutes": float("nan")}])
def test_a_cap_that_is_not_above_zero_is_refused(caps: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Budget(**caps)


@given(st.lists(spends, min_size=1, max_size=20), st.integers(1, 200))
def test_more_rollouts_are_taken_to_cost_their_mean_at_least_and_the_dearest_each_at_most_in_the_long_run(
    costs: list[Spend], n: int
) -> None:
    foreseen = as_before(costs, n)
    assert foreseen.rollouts == n
    assert foreseen.tokens_in * len(costs) >= n * sum(one.tokens_in for one in costs)
    equal = as_before([costs[0]] * len(costs), n)
    assert (equal.calls, equal.tokens_in, equal.tokens_out) == tuple(
        n * figure for figure in (costs[0].calls, costs[0].tokens_in, costs[0].tokens_out)
    )


def test_costs_of_an_exponential_tail_pass_what_is_foreseen_hardly_ever() -> None:
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(300):
        seen, later = (rng.exponential(100, size).astype(int) + 1 for size in (40, 80))
        foreseen = as_before([Spend(1, 1, 0, int(tokens), 0) for tokens in seen], 80)
        passed += int(later.sum()) > foreseen.tokens_in
    assert passed <= 0.05 * 300
