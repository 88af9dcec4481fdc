"""The rule by which a candidate is pushed or refused, on scores whose change is known."""

import numpy as np
import pytest

from pipeline.gates import judge, refusals, slice_name
from pipeline.held_out import Slices
from pipeline.settings import Gate

ROWS = 400


@pytest.fixture(scope="module")
def day():
    """400 requests of view all, every fourth of a new user, then 400 of the anchor, all returning."""
    views = np.repeat(["all", "anchor"], ROWS)
    users = np.where((np.arange(2 * ROWS) % 4 == 0) & (views == "all"), "new", "returning")
    return Slices(views, users, np.full(2 * ROWS, "without_query"))


@pytest.fixture(scope="module")
def before():
    """What the previous push scores: 0.2 and 0.6 in turn, 0.4 on average in every slice of whole pairs."""
    return np.tile([0.2, 0.6], ROWS)


def gate(**bars):
    return Gate(metric="ndcg_at_10", reason="test", **bars)


def outcomes(gates, day, candidate, previous):
    scores = None if previous is None else {"ndcg_at_10": previous}
    return judge(gates, day, {"ndcg_at_10": candidate}, scores)


GATES = [gate(view="all", at_least=0.3, lose_at_most=0.02), gate(view="anchor", lose_at_most=0.05)]


def test_gains_on_the_new_day_do_not_excuse_forgetting(day, before):
    candidate = np.where(day.view == "anchor", before * 0.9, before * 1.2)
    judged = outcomes(GATES, day, candidate, before)
    assert [one.outcome for one in judged] == ["cleared", "cleared", "refused"]
    # Every request loses a tenth, so every resample does.
    assert refusals(judged) == [
        "ndcg_at_10 on view:anchor (400 rows): 0.3600 after 0.4000 of the previous push, a change of -10.0%"
        " (95% interval -10.0% to -10.0%), the gate lets it lose 5.0% at most"
    ]


@pytest.mark.parametrize(("kept", "outcome"), [(0.96, "cleared"), (0.95, "cleared"), (0.94, "refused")])
def test_the_bar_is_a_share_of_the_previous_mean_and_counts_as_kept(day, before, kept, outcome):
    judged = outcomes([gate(view="anchor", lose_at_most=0.05)], day, before * kept, before)
    assert [one.outcome for one in judged] == [outcome]
    assert judged[0].change == pytest.approx(kept - 1)


def test_a_loss_that_chance_explains_is_named_but_not_refused(day, before):
    # Of 400 requests, 12 lose all of 0.6 and 6 gain 0.4: 7.2 - 2.4 = 4.8 of 160 is lost, 3 %; a resample varies by
    # sqrt(12 * 0.36 + 6 * 0.16) = 2.3, 1.4 %, so 95 % of them lie between -5.8 % and -0.2 %.
    candidate = before.copy()
    candidate[1:24:2] = 0.0
    candidate[200:212:2] += 0.4
    strict = outcomes([gate(lose_at_most=0.02, confidence=0.9)], day, candidate, before)
    careful = outcomes([gate(lose_at_most=0.02, confidence=0.999)], day, candidate, before)
    assert (strict[0].outcome, careful[0].outcome) == ("refused", "unsure")
    assert strict[0].change == careful[0].change == pytest.approx(-0.03)
    assert refusals(careful) == []


@pytest.mark.parametrize(("rows", "outcome"), [(1, "unsure"), (5, "unsure"), (6, "refused"), (40, "refused")])
def test_a_handful_of_requests_condemns_nobody(rows, outcome):
    # All lose half, so every resample does; five coins on one side are chance once in 32, six once in 64 < 1 / 40.
    few = Slices(*(np.full(rows, name) for name in ("all", "new", "without_query")))
    previous = np.linspace(0.2, 0.6, rows)
    judged = outcomes([gate(lose_at_most=0.1)], few, previous / 2, previous)
    assert (judged[0].outcome, judged[0].change) == (outcome, pytest.approx(-0.5))
    assert judged[0].high == pytest.approx(-0.5)


def test_a_first_run_is_judged_by_absolute_bars_alone(day, before):
    judged = outcomes(GATES, day, before, None)
    assert [one.outcome for one in judged] == ["cleared", "first run", "first run"]
    assert refusals(judged) == []
    judged = outcomes([gate(at_least=0.41), *GATES], day, before, None)
    assert refusals(judged) == [
        "ndcg_at_10 on view:all (400 rows): 0.4000, the gate asks for at least 0.4100"
    ]


def test_absolute_bar_holds_after_the_first_run_too(day, before):
    judged = outcomes([gate(at_least=0.41, lose_at_most=0.5)], day, before, before)
    assert [one.outcome for one in judged] == ["refused", "cleared"]


def test_gate_on_a_group_looks_at_that_group_alone(day, before):
    # All new users lose half; they are 100 of 400 requests, all of them scored 0.2: 10 of 160 lost in all.
    candidate = np.where(day.user_group == "new", before / 2, before)
    gates = [gate(lose_at_most=0.1), gate(lose_at_most=0.1, user_group="new")]
    judged = outcomes(gates, day, candidate, before)
    assert [(one.outcome, one.rows) for one in judged] == [("cleared", 400), ("refused", 100)]
    assert [one.change for one in judged] == [pytest.approx(-10 / 160), pytest.approx(-0.5)]
    assert judged[1].slice == slice_name(gates[1]) == "user_group:new,view:all"


def test_slice_without_rows_is_reported_and_the_others_decide(day, before):
    gates = [
        gate(lose_at_most=0.0),
        gate(view="tail_item", at_least=0.9),
        gate(query_group="with_query", at_least=1),
    ]
    judged = outcomes(gates, day, before, before)
    assert [(one.outcome, one.rows) for one in judged] == [("cleared", 400), ("no rows", 0), ("no rows", 0)]
    assert refusals(judged) == []


@pytest.mark.parametrize("previous", [True, False], ids=["warm", "first run"])
def test_candidate_that_nothing_could_judge_is_refused(day, before, previous):
    gates = [gate(view="tail_item", at_least=0.0, lose_at_most=0.5)]
    reasons = refusals(outcomes(gates, day, before, before if previous else None))
    assert len(reasons) == 1 and "no gate could be judged" in reasons[0] and "view:tail_item" in reasons[0]


def test_a_slice_the_previous_push_never_got_right_cannot_get_worse(day, before):
    judged = outcomes([gate(lose_at_most=0.0)], day, before, np.zeros_like(before))
    assert judged[0].outcome == "cleared"
    assert (judged[0].change, judged[0].low, judged[0].high) == (None, None, None)


@pytest.mark.parametrize(
    ("loss", "at_least", "at_most"), [(0.0, 0.0, 0.04), (0.05, 0.3, 0.7), (0.1, 0.95, 1.0)]
)
def test_rule_errs_as_seldom_as_the_decision_says(loss, at_least, at_most):
    """A bar of 5 %, 300 requests, 100 days; without a loss a refusal is due in 2.5 of them at most, 0.04 is one more sigma."""
    random = np.random.default_rng(1)
    slices = Slices(*(np.full(300, name) for name in ("anchor", "returning", "without_query")))
    bar = gate(view="anchor", lose_at_most=0.05)
    refused = 0
    for _ in range(100):
        taste = random.beta(0.6, 2.6, 300)  # mean 0.19; users differ much more than two models do
        hits = random.binomial(10, taste)
        kept = random.binomial(hits, 0.88)
        gained = random.poisson(10 * taste * (0.12 - loss))
        candidate = np.minimum(kept + gained, 10) / 10
        refused += outcomes([bar], slices, candidate, hits / 10)[0].outcome == "refused"
    assert at_least <= refused / 100 <= at_most
