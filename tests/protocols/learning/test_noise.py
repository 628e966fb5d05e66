"""Noise is normal to its tails, independent, and never the same twice; a Poisson sample takes each record by itself.

Keys are fixed, so that these tests answer the same every time.
"""

import itertools
import os

import numpy as np
import pytest
from scipy import stats

from protocols.learning import noise as module
from protocols.learning.noise import Noise

KEY = bytes(range(32))
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of threads
MANY = 2_000_000
MOMENTS = (1, 0, 1, 0, 3, 0, 15, 0, 105)
SUMS = np.array([[1, 1, 1, 1, 0, 0], [1, -1, 0, 0, 1, 1], [0, 0, 1, -1, 1j, -1j]])
"""What each of three complex normals adds up of six pairs."""


def test_moments_and_distribution_are_those_of_a_normal() -> None:
    x = Noise(KEY).normal(MANY, scale=3.0) / 3
    assert x.dtype == np.float64
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((x**power).mean() - expected) < 4.5 * np.sqrt(variance / MANY)
    assert stats.kstest(x, "norm").pvalue > 1e-3


@pytest.mark.parametrize("beyond", [2.0, 3.0, 4.0, 4.5])
def test_the_tails_have_the_mass_that_a_normal_has(beyond: float) -> None:
    x = Noise(KEY).normal(MANY)
    expected = MANY * stats.norm.sf(beyond)
    for found in ((x > beyond).sum(), (x < -beyond).sum()):
        assert abs(found - expected) < 4.5 * np.sqrt(expected) + 1


def test_numbers_of_one_call_do_not_depend_on_each_other() -> None:
    x = Noise(KEY).normal(MANY)
    apart = module._columns(MANY)  # the distance of normals that came from the same pairs
    for lag in (1, 2, *(apart * np.arange(1, 7))):
        for one, other in ((x[:-lag], x[lag:]), (x[:-lag] ** 2 - 1, x[lag:] ** 2 - 1)):
            assert abs(np.mean(one * other)) / (one.std() * other.std()) < 4.5 / np.sqrt(len(one))


def test_normals_of_the_same_pairs_are_independent_not_only_uncorrelated() -> None:
    columns = module._columns(MANY)
    x = Noise(KEY).normal(6 * columns * (MANY // (6 * columns))).reshape(-1, 6, columns)
    x = x.swapaxes(0, 1).reshape(6, -1)
    # all moments of up to order four, beside those of independent normals
    for places in itertools.chain.from_iterable(
        itertools.combinations_with_replacement(range(6), k) for k in (2, 3, 4)
    ):
        orders = np.bincount(places, minlength=6)
        expected, square = (np.prod([MOMENTS[times * order] for order in orders]) for times in (1, 2))
        found = np.prod(x[list(places)], axis=0).mean()
        assert abs(found - expected) < 5 * np.sqrt((square - expected**2) / x.shape[1]), places
    for direction in np.random.default_rng(0).standard_normal((20, 6)):
        assert stats.kstest(direction @ x / np.linalg.norm(direction), "norm").pvalue > 1e-4


def test_normals_are_orthogonal_sums_of_four_pairs_and_so_is_whatever_is_added_up_of_them() -> None:
    np.testing.assert_array_equal(np.abs(SUMS).sum(axis=1), 4)
    np.testing.assert_array_equal(SUMS @ SUMS.conj().T, 4 * np.eye(3))
    # three sums over six pairs: a combination without three of the pairs would need three dependent columns
    for three in itertools.combinations(range(6), 3):
        assert abs(np.linalg.det(SUMS[:, three])) > 0.5


def test_a_normal_is_the_sum_of_four_by_box_muller() -> None:
    pairs, rng = module._Pairs(100), np.random.default_rng(0)
    radii = rng.integers(-(1 << 63), 1 << 63, pairs._radii.shape)
    angles = rng.integers(-(1 << 31), 1 << 31, pairs._angles.shape, dtype=np.int32)
    angles[..., :4] = (-(1 << 31), (1 << 31) - 1, 0, 1 << 30)  # the ends and the middle of the circle
    radii[..., 4:6] = (0, -1)  # the greatest radius but one bit, and the least
    pairs._radii[:], pairs._angles[:] = radii, angles
    found = pairs.normals(0.5).reshape(2, 3, -1)
    radius = np.sqrt(-2 * np.log(1 - (radii & ((1 << 63) - 1)).astype(np.longdouble) * np.longdouble(2) ** -63))
    angle = 2 * np.pi * angles.astype(np.longdouble) * np.longdouble(2) ** -32
    expected = SUMS @ (radius * (np.cos(angle) + 1j * np.sin(angle))).reshape(6, -1) / 2
    np.testing.assert_allclose(found[0], expected.real, atol=2e-14)
    np.testing.assert_allclose(found[1], expected.imag, atol=2e-14)


def test_pieces_are_the_same_numbers() -> None:
    count = 2 * module._MOST + 5
    pieces = [piece.copy() for piece in Noise(KEY).pieces(count, 2.0)]
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), Noise(KEY).normal(count, 2.0))


def test_memory_that_is_handed_in_is_filled() -> None:
    memory = np.zeros((3, 5))
    assert Noise(KEY).normal((3, 5), 2.0, out=memory) is memory
    np.testing.assert_array_equal(memory, Noise(KEY).normal((3, 5), 2.0))


def test_two_instances_differ_and_do_not_correlate() -> None:
    one, other = Noise().normal(MANY), Noise().normal(MANY)
    assert not np.intersect1d(one, other).size
    assert abs(np.corrcoef(one, other)[0, 1]) < 5.5 / np.sqrt(MANY)
    np.testing.assert_array_equal(Noise(KEY).normal(10), Noise(KEY).normal(10))


def test_calls_go_on_where_the_last_ended_and_shapes_are_kept() -> None:
    noise = Noise(KEY)
    first, second = noise.normal((3, 5)), noise.normal((3, 5))
    assert first.shape == (3, 5)
    assert not np.intersect1d(first, second).size
    assert noise.normal(()).shape == ()
    assert noise.normal(0).shape == (0,)


@FORKS
def test_a_forked_child_does_not_share_its_parents_noise() -> None:
    noise = Noise()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, noise.uniform(8).tobytes())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        theirs = np.frombuffer(file.read())
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 8
    assert not np.intersect1d(theirs, noise.uniform(8)).size


def test_uniform_numbers_are_uniform() -> None:
    u = Noise(KEY).uniform((1000, 1000))
    assert 0 <= u.min() < u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


def test_a_poisson_sample_takes_each_record_by_itself() -> None:
    noise, count, rate, times = Noise(KEY), 200, 0.1, 5000
    taken = np.zeros((times, count))
    for row in taken:
        found = noise.poisson_sample(count, rate)
        assert (np.diff(found) > 0).all()
        row[found] = 1
    sizes = taken.sum(axis=1)
    assert abs(sizes.mean() - count * rate) < 4.5 * np.sqrt(count * rate * (1 - rate) / times)
    assert sizes.var() == pytest.approx(count * rate * (1 - rate), rel=0.1)  # a sample of fixed size has none
    assert stats.chisquare(taken.sum(axis=0), np.full(count, taken.sum() / count)).pvalue > 1e-3
    correlations = np.corrcoef(taken.T)[np.triu_indices(count, 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(times)


def test_a_rate_too_small_to_be_kept_takes_nobody_and_no_rate_takes_more_than_it_says() -> None:
    assert len(Noise(KEY).poisson_sample(MANY, 2.0**-33)) == 0
    everybody_but_few = len(Noise(KEY).poisson_sample(MANY, 1 - 2.0**-32))
    assert MANY - 5 <= everybody_but_few <= MANY


@pytest.mark.parametrize("count", [1, 2, 3, module._MOST, module._MOST + 1, 3 * module._MOST + 5])
def test_numbers_of_any_count_are_all_drawn(count: int) -> None:
    x = Noise(KEY).normal(count)
    assert len(np.unique(x)) == count
    assert (x != 0).all()


def test_nobody_or_everybody_is_taken_at_the_ends() -> None:
    assert len(Noise().poisson_sample(50, 0.0)) == 0
    assert len(Noise().poisson_sample(50, 1.0)) == 50
    assert len(Noise().poisson_sample(0, 0.5)) == 0
