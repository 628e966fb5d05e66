"""A codebook turns logits and noisy latents into labels as Bayes would, whatever the blocks' sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from protocols.learning.codebook import Codebook
from protocols.learning.diffusion import Diffusion
from protocols.learning.layout import Book
from protocols.learning.parameters import DiffusionParameters
from protocols.learning.training import train

RNG = np.random.default_rng(5)
THREE = Book(1, RNG.normal(size=(3, 2)).astype(np.float32))
TWO = Book(4, np.array([[1.0], [-1.0]], np.float32))  # dimensions 0 and 3 are free


def a_codebook() -> Codebook:
    return Codebook.of([THREE, TWO], torch.zeros(5), torch.ones(5))


def test_a_block_counts_by_its_posterior_under_gaussian_noise() -> None:
    book, noisy, sigma = a_codebook(), torch.randn(50, 5), torch.full((50, 1), 0.7)
    logits = torch.randn(50, 5)
    found = book.expected(logits, noisy, sigma)
    words = torch.from_numpy(THREE.words)
    likelihood = torch.distributions.Normal(words, 0.7).log_prob(noisy[:, None, 1:3]).sum(dim=2)
    posterior = ((1 + 1 / 0.49) ** 0.5 * logits[:, :3] + likelihood).softmax(dim=1)
    torch.testing.assert_close(found[:, 1:3], posterior @ words, rtol=1e-4, atol=1e-4)
    assert found[:, [0, 3]].abs().max() == 0


def test_the_loss_is_the_cross_entropy_of_the_labels_over_all_blocks() -> None:
    book, logits = a_codebook(), torch.randn(6, 5)
    labels, flags = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 0, 1, 0, 1])
    clean = torch.zeros(6, 5)
    clean[:, 1:3], clean[:, 4:] = torch.from_numpy(THREE.words)[labels], torch.from_numpy(TWO.words)[flags]
    expected = torch.nn.functional.cross_entropy(logits[:, :3], labels, reduction="none")
    expected += torch.nn.functional.cross_entropy(logits[:, 3:], flags, reduction="none")
    torch.testing.assert_close(book.entropy(logits, clean), expected)


def test_draws_follow_the_logits() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1, 0.4, 0.6]]).log().expand(20_000, -1)
    drawn = a_codebook().drawn(logits, torch.Generator().manual_seed(1))
    shares = [(drawn[:, 1:3] == torch.from_numpy(word)).all(dim=1).float().mean() for word in THREE.words]
    torch.testing.assert_close(torch.stack(shares), torch.tensor([0.7, 0.2, 0.1]), atol=0.02, rtol=0)
    assert abs(float((drawn[:, 4] == 1).float().mean()) - 0.4) < 0.02


def test_words_move_with_the_latents_when_these_are_standardised() -> None:
    mean, spread = torch.arange(5.0), torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0])
    book = Codebook.of([THREE, TWO], mean, spread)
    wanted = (torch.from_numpy(THREE.words) - mean[1:3]) / spread[1:3]
    torch.testing.assert_close(book.words[:3, 1:3], wanted)
    assert book.words[3:].abs().max() == 0  # a block that never varies says nothing


@pytest.mark.parametrize("labels", [2, 4])
def test_a_diffusion_that_knows_its_codewords_samples_nothing_else(labels: int) -> None:
    words = RNG.normal(size=(labels, 3)).astype(np.float32)
    chosen = RNG.integers(0, labels, 600)
    number = (chosen + 0.1 * RNG.standard_normal(600)).astype(np.float32)
    latents = np.concatenate([number[:, None], words[chosen]], axis=1)
    parameters = DiffusionParameters(steps=400, batch=128, width=64, blocks=2)
    model = train(latents, parameters, lambda *_: None, books=[Book(1, words)])
    sample = model.sample(400, lambda *_: None)
    distances = np.linalg.norm(sample[:, None, 1:] - words, axis=2)
    assert distances.min(axis=1).max() < 0.05
    agreeing = np.abs(sample[:, 0] - distances.argmin(axis=1)) < 0.6
    assert agreeing.mean() > 0.7


def test_a_saved_model_keeps_its_codebook(tmp_path: Path) -> None:
    path = tmp_path / "model"
    latents = RNG.normal(size=(100, 5)).astype(np.float32)
    model = train(latents, DiffusionParameters(steps=3, batch=16, width=16), lambda *_: None, books=[THREE, TWO])
    model.save(path)
    again = Diffusion.load(path, "cpu")
    np.testing.assert_array_equal(again.sample(20, lambda *_: None), model.sample(20, lambda *_: None))
