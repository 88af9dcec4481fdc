"""The paired interval: the oracle's to the last digit, the textbook's, much narrower than an unpaired one, and covering."""

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


def test_same_as_drawing_and_averaging_request_by_request():
    random = np.random.default_rng(5)
    candidate, previous = random.random(30), random.random(30)
    got = paired_bootstrap(candidate, previous, samples=1000, seed=3)
    changes = []
    draws = np.random.default_rng(3)
    for _ in range(1000):
        drawn = [int(draws.integers(0, 30)) for _ in range(30)]
        now = sum(float(candidate[row]) for row in drawn) / 30
        before = sum(float(previous[row]) for row in drawn) / 30
        changes.append((now - before) / before)
    changes.sort()
    # 1,000 sorted resamples: 2.5 % lies at position 0.025 * 999 = 24.975, outward 24; 97.5 % at 974.025, outward 975.
    np.testing.assert_allclose([got.low, got.high], [changes[24], changes[975]], rtol=1e-12)
    assert got.mean == pytest.approx(sum(candidate) / sum(previous) - 1, rel=1e-12)


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
