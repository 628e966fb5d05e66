"""Clipped sums are those of Opacus, and nothing in which one record could be felt by another is let in."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from protocols.learning.clipped import ELEMENTWISE, ClippedSum, Loss, kept
from services.errors import ConfigError


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(6, 9), nn.LeakyReLU(), nn.Linear(9, 7, bias=False), nn.Tanh(), nn.Linear(7, 2))
    return nn.Sequential(*layers).double()


class Autoencoder(nn.Module):
    """The shape of a β-VAE: two heads on one trunk, then a decoder; without its noise, in which two runs differ."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU())
        self.mean, self.spread = nn.Linear(8, 3), nn.Linear(8, 3)
        self.decoder = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 6))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.trunk(rows)
        mean, spread = self.mean(hidden), self.spread(hidden)
        return self.decoder(mean + spread.exp()), mean, spread


def squared(model: nn.Module, batch: Tensor) -> Tensor:
    return (model(batch) - batch[:, :2]).square().sum(dim=1)


def elbo(model: nn.Module, batch: Tensor) -> Tensor:
    rows, mean, spread = model(batch)
    return (rows - batch).square().sum(1) + 0.5 * (mean.square() + (2 * spread).exp() - 2 * spread - 1).sum(1)


def vae() -> Autoencoder:
    torch.manual_seed(1)
    return Autoencoder().double()


def by_opacus(model: nn.Module, loss: Loss, batch: Tensor, clip: float) -> Tensor:
    """The clipped sum [p] by Opacus's hooks."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(copy.deepcopy(model))
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), 1.0), noise_multiplier=0.0, max_grad_norm=clip, expected_batch_size=1
    )
    loss(wrapped, batch).mean().backward()
    optimizer.clip_and_accumulate()
    return torch.cat([parameter.summed_grad.flatten() for parameter in wrapped.parameters()])


def our(model: nn.Module, loss: Loss, batch: Tensor, clip: float) -> Tensor:
    with kept(model, loss, clip, torch.rand(3, batch.shape[1], dtype=batch.dtype)) as sums:
        sums.add_up(batch)
    return sums.total


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "loss"), [(mlp, squared), (vae, elbo)])
@pytest.mark.parametrize("clip", [0.05, 3.0, 1e9])  # all are clipped, some, none
def test_the_sum_is_that_of_opacus(model: Callable[[], nn.Module], loss: Loss, clip: float) -> None:
    batch = torch.randn(64, 6, dtype=torch.float64) * torch.logspace(-3, 1, 64, dtype=torch.float64)[:, None]
    expected = by_opacus(model(), loss, batch, clip)
    assert (our(model(), loss, batch, clip) - expected).norm() <= 1e-6 * expected.norm()


def test_no_row_adds_more_than_the_bound() -> None:
    for scale in (1e-3, 1.0, 1e3, 1e8):
        row = scale * torch.randn(1, 6, dtype=torch.float64)
        assert our(mlp(), squared, row, 0.7).norm() <= 0.7


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_a_row_whose_gradient_overflows_adds_nothing(value: float) -> None:
    model, batch = mlp().float(), torch.randn(8, 6)
    spoilt = torch.cat([batch[:3], torch.full((1, 6), value), batch[3:]])
    torch.testing.assert_close(our(model, squared, spoilt, 1.0), our(model, squared, batch, 1.0))


def test_an_empty_batch_adds_nothing() -> None:
    model = mlp()
    with kept(model, squared, 1.0, torch.rand(3, 6, dtype=torch.float64)) as sums:
        sums.add_up(torch.randn(5, 6, dtype=torch.float64))
        sums.add_up(torch.empty(0, 6, dtype=torch.float64))
    assert not sums.total.any()


def test_afterwards_the_model_is_an_ordinary_one() -> None:
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    our(model, squared, torch.randn(5, 6, dtype=torch.float64), 1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len({parameter.untyped_storage().data_ptr() for parameter in model.parameters()}) == 5
    squared(model, torch.randn(5, 6, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def parts_refused() -> list[nn.Module]:
    return [
        nn.BatchNorm1d(6), nn.InstanceNorm1d(6), nn.SyncBatchNorm(6), nn.LSTM(6, 6), nn.MultiheadAttention(6, 2),
        nn.LayerNorm(6), nn.PReLU(), nn.Embedding(6, 6), nn.Conv1d(6, 6, 1), nn.Bilinear(6, 6, 6), nn.Softmax(dim=0),
    ]  # fmt: skip


@pytest.mark.parametrize("part", parts_refused(), ids=lambda part: type(part).__name__)
def test_a_part_that_is_not_allowed_is_refused_by_name(part: nn.Module) -> None:
    with pytest.raises(ConfigError, match=type(part).__name__), a_try(nn.Sequential(nn.Linear(6, 6), part), squared):
        pass


@pytest.mark.filterwarnings("ignore")
def test_all_that_is_let_in_is_valid_to_opacus_too() -> None:
    from opacus.validators import ModuleValidator

    assert ModuleValidator.is_valid(nn.Sequential(nn.Linear(6, 6), *(part() for part in ELEMENTWISE)))


def mean_of_the_batch(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return (out - out.mean(dim=0)).square().sum(dim=1)


def scaled_by_the_batch(model: nn.Module, batch: Tensor) -> Tensor:
    return squared(model, batch / batch.norm())


def neighbours(model: nn.Module, batch: Tensor) -> Tensor:
    return squared(model, batch) + squared(model, batch).roll(1)


def shuffled(model: nn.Module, batch: Tensor) -> Tensor:
    return squared(model, batch.roll(1, dims=0))


@pytest.mark.parametrize("loss", [mean_of_the_batch, scaled_by_the_batch, shuffled])
def test_a_loss_that_mixes_rows_is_refused(loss: Loss) -> None:
    with pytest.raises(ConfigError, match="depends on another record"), a_try(mlp(), loss):
        pass


def test_a_loss_that_is_not_one_number_a_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="one number for each"), a_try(mlp(), lambda m, b: squared(m, b).mean()):
        pass


def test_layers_that_run_twice_or_never_and_shared_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="ran twice"), a_try(mlp(), neighbours):
        pass
    with pytest.raises(ConfigError, match="took no part"), a_try(vae(), lambda m, b: m.trunk(b).sum(1)):
        pass
    tied = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double()
    tied[2].weight = tied[0].weight
    with pytest.raises(ConfigError, match="no two share"), a_try(tied, squared):
        pass
    with pytest.raises(ConfigError, match="in place"), a_try(nn.Sequential(nn.Linear(6, 6), nn.ReLU(True)), squared):
        pass
    with pytest.raises(ConfigError, match="every linear layer"), a_try(nn.Sequential(nn.Tanh()), squared):
        pass


def test_a_record_of_several_rows_is_refused() -> None:
    def rows(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch[:, None].expand(-1, 2, -1)).sum(dim=(1, 2))

    with pytest.raises(ConfigError, match="several rows"), a_try(mlp(), rows):
        pass


def a_try(model: nn.Module, loss: Loss) -> AbstractContextManager[ClippedSum]:
    return kept(model.double(), loss, 1.0, torch.rand(3, 6, dtype=torch.float64))
