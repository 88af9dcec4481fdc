"""The paired interval: exact where it can be worked out, narrower than an unpaired one, and covering."""

import numpy as np
import pytest

from pipeline.paired_bootstrap import paired_bootstrap


def test_constant_difference_has_an_interval_of_no_width():
    previous = np.random.default_rng(1).random(50)
    got = paired_bootstrap(previous + 0.25, previous)
    np.testing.assert_allclose([got.mean, got.low, got.high], 0.25, atol=1e-12)
    assert got.rows == 50


def test_interval_agrees_with_the_normal_approximation_of_paired_differences():
    random = np.random.default_rng(2)
    shared = random.normal(size=2000)  # request difficulty, common to both
    candidate, previous = shared + random.normal(0.1, 0.2, 2000), shared
    got = paired_bootstrap(candidate, previous)
    half = 1.96 * (candidate - previous).std() / np.sqrt(2000)
    np.testing.assert_allclose([got.low, got.high], [got.mean - half, got.mean + half], atol=0.15 * half)
    # Negative control: shuffled, the pairing is lost and the interval is several times wider.
    loose = paired_bootstrap(random.permutation(candidate), previous)
    assert loose.high - loose.low > 4 * (got.high - got.low)


def test_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        difference = random.normal(0.0, 1.0, 80)
        got = paired_bootstrap(difference, np.zeros(80), samples=400, seed=trial)
        covered += got.low <= 0.0 <= got.high
    assert 180 <= covered <= 199  # 95 % of 200 = 190, three standard deviations are 9


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_arrays_that_are_not_paired_are_refused(shapes):
    with pytest.raises(ValueError, match="expected two equal"):
        paired_bootstrap(np.zeros(shapes[0]), np.zeros(shapes[1]))
