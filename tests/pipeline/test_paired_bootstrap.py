"""The paired interval: the oracle's to the last digit, the textbook's, much narrower than an unpaired one, and covering."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.paired_bootstrap import paired_bootstrap

SHARES = st.floats(0, 1, width=32)


@pytest.fixture(scope="module")
def requests():
    """2,000 requests of very different difficulty; the candidate is 3 % worse on average, and noisy."""
    random = np.random.default_rng(2)
    previous = random.uniform(0.0, 1.0, 2000)
    candidate = np.clip(previous * 0.97 + random.normal(0.0, 0.03, 2000) * previous, 0, None)
    return candidate, previous


def unpaired_bootstrap(candidate, previous, samples=2000):
    """What must not be done: each model's requests are drawn anew."""
    random = np.random.default_rng(0)
    picks = random.integers(0, len(candidate), (2, samples, len(candidate)))
    changes = candidate[picks[0]].mean(axis=1) / previous[picks[1]].mean(axis=1) - 1
    return np.quantile(changes, [0.025, 0.975])


def textbook_interval(candidate, previous):
    """Delta method for a ratio of paired means: r -+ 1.96 * sd(candidate - r' * previous) / (sqrt(n) * mean(previous))."""
    ratio = candidate.mean() / previous.mean()
    half = 1.96 * (candidate - ratio * previous).std() / np.sqrt(len(previous)) / previous.mean()
    return np.array([ratio - 1 - half, ratio - 1 + half])


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_interval_is_that_of_all_resamples_there_are(confidence):
    candidate, previous = np.array([0.1, 0.6, 0.6, 0.0, 0.3]), np.array([0.2, 0.5, 0.5, 0.1, 0.9])
    rows = itertools.product(range(5), repeat=5)  # 3,125 resamples of five requests, equally likely
    changes = []
    for drawn in rows:
        now, before = sum(float(candidate[row]) for row in drawn), sum(float(previous[row]) for row in drawn)
        changes.append((now - before) / before)
    changes.sort()
    got = paired_bootstrap(candidate, previous, confidence=confidence, samples=20_000)
    assert got.mean == pytest.approx(1.6 / 2.2 - 1, rel=1e-12)
    # The standard error of a share of 20,000 draws is 0.35 % at most; 1.5 % are four of these.
    for end, share in ((got.low, (1 - confidence) / 2), (got.high, (1 + confidence) / 2)):
        first, last = round(3125 * (share - 0.015)), round(3125 * (share + 0.015))
        assert changes[max(first, 0)] - 1e-12 <= end <= changes[min(last, 3124)] + 1e-12


def test_interval_is_the_textbook_one_and_an_unpaired_one_is_not(requests):
    expected = textbook_interval(*requests)
    width = expected[1] - expected[0]
    got = paired_bootstrap(*requests)
    np.testing.assert_allclose([got.low, got.high], expected, atol=0.1 * width)
    assert got.high < 0, "a loss of 3 % is told from chance"
    # Negative control: drawn apart, the requests' difficulty drowns the same loss.
    loose = unpaired_bootstrap(*requests)
    assert loose[1] - loose[0] > 5 * width
    assert loose[1] > 0


def test_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        previous = random.uniform(0.2, 1.0, 80)
        candidate = previous + random.normal(-0.06, 0.1, 80)  # -0.06 / 0.6 = -10 %
        got = paired_bootstrap(candidate, previous, samples=1000, seed=trial)
        covered += got.low <= -0.1 <= got.high
    assert 180 <= covered <= 199  # 95 % of 200 = 190, three standard deviations are 9


@given(st.lists(SHARES, min_size=1, max_size=40), st.floats(0, 2))
@settings(max_examples=50, deadline=None)
def test_the_same_factor_on_every_request_leaves_no_doubt(values, factor):
    previous = np.array(values)
    got = paired_bootstrap(previous * factor, previous, samples=1000)
    expected = factor - 1 if previous.any() else 0.0
    assert got.mean == pytest.approx(expected, abs=1e-9)
    # A resample may hold only requests on which both score 0: no change.
    assert got.low == pytest.approx(expected, abs=1e-9) or (got.low == 0 < expected)
    assert got.high == pytest.approx(expected, abs=1e-9) or (got.high == 0 > expected)


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=40), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_never_less_than_all_lost_and_the_same_seed_gives_the_same(pairs, seed):
    candidate, previous = np.array(pairs).T
    got = paired_bootstrap(candidate, previous, samples=1000, seed=seed)
    assert -1 <= got.low <= got.high
    assert got == paired_bootstrap(candidate, previous, samples=1000, seed=seed)
    wider = paired_bootstrap(candidate, previous, samples=1000, seed=seed, confidence=0.99)
    assert wider.low <= got.low and got.high <= wider.high


def test_nothing_before_is_nothing_to_lose():
    nothing = np.zeros(20)
    assert paired_bootstrap(nothing, nothing) == (0, 0, 0)
    better = paired_bootstrap(np.full(20, 0.1), nothing)
    assert better == (np.inf, np.inf, np.inf)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_arrays_that_are_not_paired_are_refused(shapes):
    with pytest.raises(ValueError, match="expected two equal"):
        paired_bootstrap(np.zeros(shapes[0]), np.zeros(shapes[1]))
