"""What latent diffusion promises: it learns, repeats itself, resumes after a kill, and leaves torch's state alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from protocols.learning.diffusion import Denoiser, Diffusion
from protocols.learning.parameters import DiffusionParameters
from protocols.learning.standardised import Standardised
from protocols.learning.tensors import map_rows, writing_rows
from protocols.learning.training import train
from services.errors import RunFailed

SMALL = DiffusionParameters(steps=60, batch=64, width=32, blocks=2)


def silent(phase: str, step: int, total: int, loss: float | None) -> None: ...


def a_ring(rows: int = 2000) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, rows)
    ring = np.column_stack([np.cos(angle), np.sin(angle), np.full(rows, 7.0)])
    return (3 * ring + 0.05 * rng.standard_normal(ring.shape) * [1, 1, 0]).astype(np.float32)


def test_it_learns_a_shape_that_no_independent_columns_have() -> None:
    parameters = DiffusionParameters(steps=400, batch=256, width=64, blocks=2)
    rows = train(a_ring(), parameters, silent, device="cpu").sample(500, silent)
    radius = np.linalg.norm(rows[:, :2], axis=1)
    assert np.mean(np.abs(radius - 3) < 0.6) > 0.9
    assert np.abs(rows[:, :2].mean(axis=0)).max() < 0.4
    assert (rows[:, 2] == 21).all()


def test_the_same_parameters_give_the_same_rows_and_another_seed_others() -> None:
    first, again = (train(a_ring(), SMALL, silent, device="cpu").sample(20, silent) for _ in range(2))
    other = train(a_ring(), SMALL.model_copy(update={"seed": 1}), silent, device="cpu").sample(20, silent)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_killed_training_resumes_on_the_path_it_was_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.learning.training.CHECKPOINT_SECONDS", 0.0)
    steps: list[int] = []

    def killed_at_40(phase: str, step: int, total: int, loss: float | None) -> None:
        steps.append(step)
        if step == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(a_ring(), SMALL, killed_at_40, tmp_path / "checkpoint", "cpu")
    resumed = train(a_ring(), SMALL, killed_at_40_is_past(steps), tmp_path / "checkpoint", "cpu")
    assert steps == [20, 40, 40, 60]  # step 20 was kept, 40 was not yet
    whole = train(a_ring(), SMALL, silent, device="cpu")
    np.testing.assert_allclose(resumed.sample(20, silent), whole.sample(20, silent), atol=1e-6)


def killed_at_40_is_past(steps: list[int]):  # noqa: ANN201
    return lambda phase, step, total, loss: steps.append(step)


def test_latents_in_a_file_train_as_latents_in_memory_do(tmp_path: Path) -> None:
    with writing_rows(tmp_path / "latents", "latents", 2000, 3) as write:
        write(a_ring())
    mapped = map_rows(tmp_path / "latents")
    first, again = (train(rows, SMALL, silent, device="cpu").sample(20, silent) for rows in (a_ring(), mapped))
    np.testing.assert_array_equal(first, again)


def test_latents_are_brought_to_mean_0_and_variance_1_however_many_blocks_they_take() -> None:
    latents = np.random.default_rng(0).normal([3, -1e3, 0], [2, 0.5, 1], (20_000, 3)).astype(np.float32)
    latents[:, 2] = 7
    data = Standardised(latents, torch.device("cpu"))
    found = data[torch.arange(len(data))].numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 0], atol=1e-4)
    back = found[:, :2] * data.spread[:2].numpy() + data.mean[:2].numpy()
    np.testing.assert_allclose(back, latents[:, :2], atol=1e-3)


def test_a_saved_model_draws_the_same_rows(tmp_path: Path) -> None:
    model = train(a_ring(), SMALL, silent, device="cpu")
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(
        Diffusion.load(tmp_path / "model", "cpu").sample(20, silent), model.sample(20, silent)
    )


def test_rows_are_drawn_in_chunks_that_fit_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.learning.diffusion.SAMPLE_ROWS", 8)
    calls: list[tuple[int, int]] = []
    model = train(a_ring(), SMALL, silent, device="cpu")
    rows = model.sample(20, lambda phase, step, total, loss: calls.append((step, total)))
    assert rows.shape == (20, 3)
    assert len(np.unique(rows[:, 0])) == 20
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_progress_names_the_phase_the_step_and_a_falling_loss() -> None:
    calls: list[tuple[str, int, int, float | None]] = []
    parameters = SMALL.model_copy(update={"steps": 110})
    train(a_ring(), parameters, lambda *call: calls.append(call), device="cpu")
    assert [call[:3] for call in calls] == [("diffusion", step, 110) for step in (20, 40, 60, 80, 100, 110)]
    losses = [loss for *_, loss in calls if loss is not None]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_a_small_table_is_passed_over_a_bounded_number_of_times() -> None:
    totals: set[int] = set()
    parameters = SMALL.model_copy(update={"epochs": 6})
    train(a_ring(250), parameters, lambda phase, step, total, loss: totals.add(total), device="cpu")
    assert totals == {24}  # 6 passes over 250 rows, 64 at a time; 60 steps would be 15 passes


def test_global_random_state_is_neither_used_nor_moved() -> None:
    before = torch.get_rng_state()
    train(a_ring(), SMALL, silent, device="cpu").sample(3, silent)
    assert torch.equal(before, torch.get_rng_state())


def test_an_untrained_network_says_nothing_and_costs_one() -> None:
    """F starts at zero, so the denoiser starts as EDM's skip alone and the weighted loss at 1 for unit latents."""
    denoiser = Denoiser(4, SMALL)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5000, 4, generator=generator)
    sigma = torch.full((5000, 1), 0.7)
    assert denoiser.loss(clean, sigma, noise).item() == pytest.approx(1, abs=0.05)
    assert torch.allclose(denoiser.denoise(clean, sigma), clean / (1 + 0.7**2))


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(RunFailed, match="no longer finite"):
        train(np.full((10, 2), np.nan, dtype=np.float32), SMALL, silent, device="cpu")
