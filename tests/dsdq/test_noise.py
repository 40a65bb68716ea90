"""Philox4x32-10 gives Random123's known answers, in numpy, in torch and one at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dsdq import noise
from dsdq.noise import Purpose

# kat_vectors of Random123 for philox4x32 with 10 rounds: counter, key, output.
KNOWN = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def uniform(seed: int, position: int, choice: int, purpose: Purpose) -> float:
    return float(noise.uniforms(seed, np.array([position]), choice, purpose)[0])


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_known_answers(make: object, counter: tuple[int, ...], key: tuple[int, int], output: tuple[int, ...]) -> None:
    given = tuple(make([word]) for word in counter)  # type: ignore[operator]
    assert tuple(int(word[0]) for word in noise.philox4x32(given, key)) == output  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_numpy_torch_and_single_numbers_agree_bit_for_bit(seed: int) -> None:
    positions, tokens = np.array([0, 5, 2**31 - 1]), np.array([0, 1, 2, 3, 4, 9, 2047, 151_999])
    ours = noise.words(seed, positions, tokens, 3, Purpose.ACCEPT)
    theirs = noise.words(seed, torch.from_numpy(positions), torch.from_numpy(tokens), 3, Purpose.ACCEPT)
    assert np.array_equal(ours, theirs.numpy())
    for row, position in enumerate(positions.tolist()):
        assert uniform(seed, position, 3, Purpose.ACCEPT) == (int(ours[row, 0]) + 0.5) * 2.0**-32


def test_a_token_has_its_noise_whoever_it_is_asked_with() -> None:
    alone = noise.gumbel(7, np.array([11]), np.array([130]), 0)
    among = noise.gumbel(7, np.array([10, 11]), np.array([2, 130, 131, 500]), 0)
    assert alone[0, 0] == among[1, 1]


def test_rows_of_several_sessions_have_each_its_own_noise() -> None:
    seeds, positions, choices = [7, 2**64 - 1, 7], np.array([11, 11, 12]), [0, 1, 65_535]
    tokens = np.array([0, 3, 130])
    together = noise.gumbel(seeds, positions, tokens, choices)
    for row in range(3):
        alone = noise.gumbel(seeds[row], positions[row : row + 1], tokens, choices[row])
        assert np.array_equal(together[row], alone[0])
    theirs = noise.words(seeds, torch.from_numpy(positions), torch.from_numpy(tokens), choices, Purpose.GUMBEL)
    assert np.array_equal(theirs.numpy(), noise.words(seeds, positions, tokens, choices, Purpose.GUMBEL))


@pytest.mark.parametrize("vocab", [1, 4, 130])
def test_noise_everywhere_is_that_of_each_token(vocab: int) -> None:
    positions, seeds, choices = np.array([11, 12]), np.array([7, -1]), np.array([0, 65_535])
    asked = noise.gumbel([7, 2**64 - 1], positions, np.arange(vocab), [0, 65_535])
    assert np.array_equal(noise.gumbel_everywhere(seeds, positions, vocab, choices), asked)


def test_noise_stays_within_the_bounds_that_pruning_relies_on() -> None:
    least, most = 0.5 * 2.0**-32, 1 - 0.5 * 2.0**-32
    assert -math.log(-math.log1p(-least)) < noise.GUMBEL_MOST
    assert -math.log(-math.log1p(-most)) > noise.GUMBEL_LEAST


def test_gumbel_has_its_mean_and_variance() -> None:
    values = noise.gumbel(20_261_123, np.arange(100), np.arange(2000), 0)
    assert abs(values.mean() - 0.5772156649) < 0.01
    assert abs(values.var() - math.pi**2 / 6) < 0.02


def test_every_part_of_the_counter_matters() -> None:
    base = uniform(1, 2, 3, Purpose.ACCEPT)
    others = [
        uniform(2, 2, 3, Purpose.ACCEPT),
        uniform(1, 3, 3, Purpose.ACCEPT),
        uniform(1, 2, 4, Purpose.ACCEPT),
        uniform(1, 2, 3, Purpose.BONUS),
    ]
    assert len({base, *others}) == 5


def test_a_sessions_seed_depends_on_secret_and_session() -> None:
    seeds = {noise.session_seed(secret, session) for secret in (1, 2) for session in ("a", "b")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**64 for seed in seeds)
