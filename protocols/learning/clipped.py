"""Sums of clipped per-sample gradients for the price of one ordinary backward pass.

Book-keeping (Bu, Wang, Zha and Karypis, ICML 2023): the gradient of sample i at a linear layer is the outer product
g_i a_iᵀ of the layer's output gradient and its input, so its norm is known without forming it, ‖g_i‖ (‖a_i‖² + 1)^½
with a bias, and the clipped sum over samples is one matrix product. Autograd is asked for the g of all layers at once
and for no gradient of a parameter.

Clipping bounds what one sample adds only where a sample touches nothing but its own row. `kept` lets in linear layers
and elementwise activations alone, and tries the loss on made-up rows: whatever mixes rows is refused before data is
seen. What no gradient shows, such as a threshold computed over the batch, remains for the loss's author to avoid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from services.errors import ConfigError

Loss = Callable[[nn.Module, Tensor], Tensor]
"""`loss(model, batch)`: the loss [n] of each row of a batch [n, width], from that row and fresh randomness alone."""

ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.LogSigmoid,
    nn.Softplus, nn.Hardtanh, nn.Dropout,
)  # fmt: skip
_TINY = 1e-6  # as Opacus: keeps the quotient finite, and a clipped norm a hair below its bound


class ClippedSum:
    """A model whose parameters lie in one buffer, and the sum of its clipped per-sample gradients in another.

    Attributes:
        values: all parameters [p], which the model's own are views of; change them in place.
        total: what `add_up` left [p].
    """

    def __init__(self, model: nn.Module, loss: Loss, clip: float) -> None:
        self._model, self._loss, self._clip = model, loss, clip
        self.layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self._kept: dict[nn.Linear, tuple[Tensor, Tensor]] = {}
        parameters = [parameter for layer in self.layers for parameter in layer.parameters()]
        self.values = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self.total = torch.zeros_like(self.values)
        self._sums: dict[Tensor, Tensor] = dict(zip(parameters, _views(self.total, parameters), strict=True))
        for parameter, view in zip(parameters, _views(self.values, parameters), strict=True):
            parameter.requires_grad = False
            parameter.data = view

    def add_up(self, batch: Tensor) -> None:
        """Set `total` to the sum over a batch [n, width]; n may be 0."""
        if not len(batch):
            self.total.zero_()
            return
        losses = self.losses(batch)
        inputs, outputs = zip(*self.taken(), strict=True)
        slopes = torch.autograd.grad(losses.sum(), outputs, materialize_grads=True)
        with torch.no_grad():
            self._reduce(inputs, slopes)

    def _reduce(self, inputs: tuple[Tensor, ...], slopes: tuple[Tensor, ...]) -> None:
        norm = self.norms(inputs, slopes)
        weight = (self._clip / (norm + _TINY)).clamp(max=1.0)
        if not (finite := norm.isfinite()).all():  # a sample whose gradient overflows adds nothing, not NaN
            inputs, slopes = (tuple(t.where(finite[:, None], 0.0) for t in pair) for pair in (inputs, slopes))
            weight = weight.where(finite, 0.0)
        for layer, a, g in zip(self.layers, inputs, slopes, strict=True):
            torch.mm((g * weight[:, None]).T, a, out=self._sums[layer.weight])
            if layer.bias is not None:
                torch.mv(g.T, weight, out=self._sums[layer.bias])

    def norms(self, inputs: tuple[Tensor, ...], slopes: tuple[Tensor, ...]) -> Tensor:
        """The norms [n] of the samples' whole gradients."""
        squares = torch.zeros(len(inputs[0]), dtype=inputs[0].dtype, device=inputs[0].device)
        for layer, a, g in zip(self.layers, inputs, slopes, strict=True):
            squares.addcmul_(_square(g), _square(a) + (layer.bias is not None))
        return squares.sqrt_()

    def losses(self, batch: Tensor) -> Tensor:
        """The losses [n] of a batch [n, width], with the layers' inputs and outputs kept for `taken`."""
        self._kept.clear()
        losses = self._loss(self._model, batch)
        if losses.shape != (len(batch),):
            raise ConfigError(f"the loss must give one number for each of {len(batch)} rows, not {tuple(losses.shape)}")
        return losses

    def taken(self) -> list[tuple[Tensor, Tensor]]:
        """The inputs and outputs of every layer at the last `losses`, which are not kept any longer."""
        if len(self._kept) < len(self.layers):
            raise ConfigError("a linear layer took no part in the loss", fix="remove it from the model")
        return [self._kept.pop(layer) for layer in self.layers]

    def keep(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        """Remember what went through a layer; a forward hook."""
        assert isinstance(layer, nn.Linear)  # noqa: S101 - hooks are typed for every module
        if layer in self._kept:
            raise ConfigError("a linear layer ran twice for one loss", fix="use each layer once, or give it a twin")
        if output.ndim != 2:
            raise ConfigError("a linear layer saw several rows for one record", fix="flatten each record to one row")
        if not output.requires_grad:
            output.requires_grad_()  # no parameter asks for a gradient, so the first layers' outputs must
        self._kept[layer] = inputs[0].detach(), output


@contextlib.contextmanager
def kept(model: nn.Module, loss: Loss, clip: float, probe: Tensor) -> Iterator[ClippedSum]:
    """The book-keeping of a model for as long as it is trained; afterwards the model is an ordinary one again.

    Args:
        model: made of linear layers and elementwise activations, all trained.
        loss: tells the losses of a batch.
        clip: the greatest norm of what one sample adds.
        probe: made-up rows [n, width], at least 2, on which the loss is tried.

    Raises:
        ConfigError: the model or the loss could let one record change what another adds.
    """
    check_layers(model)
    sums = ClippedSum(model, loss, clip)
    hooks = [layer.register_forward_hook(sums.keep) for layer in sums.layers]
    try:
        check_rows(sums, probe)
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
        for layer in sums.layers:
            for parameter in layer.parameters():
                parameter.data = parameter.data.clone()
                parameter.requires_grad = True


def check_layers(model: nn.Module) -> None:
    """Refuse a model with anything but linear layers, elementwise activations and modules made of those.

    Raises:
        ConfigError: naming the part.
    """
    for name, module in model.named_modules():
        known = type(module) is nn.Linear or type(module) in ELEMENTWISE
        if getattr(module, "inplace", False):
            raise ConfigError(f"{name!r} works in place: what the book-keeping kept would change", fix="inplace=False")
        if known:
            continue
        if not any(True for _ in module.children()) or next(module.parameters(recurse=False), None) is not None:
            raise ConfigError(
                f"{name!r} is a {type(module).__name__}: it may mix the rows of a batch, or has parameters of its own",
                fix="build private models of torch.nn.Linear and elementwise activations",
            )
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear or len(weights) != sum(1 for layer in linear for _ in layer.parameters()):
        raise ConfigError("every linear layer of a private model is trained, and no two share a parameter")


def check_rows(sums: ClippedSum, probe: Tensor) -> None:
    """Refuse a loss in which one row can be felt by another, at any layer.

    Raises:
        ConfigError: it can.
    """
    rows = probe.clone().requires_grad_()
    losses = sums.losses(rows)
    places = [rows, *(output for _, output in sums.taken())]
    for row in range(len(probe)):
        slopes = torch.autograd.grad(losses[row], places, retain_graph=True, materialize_grads=True)
        others = torch.arange(len(probe)) != row
        if any(len(slope) != len(probe) or bool((slope[others] != 0).any()) for slope in slopes):
            raise ConfigError(
                "the loss of one record depends on another record of its batch",
                fix="compute each record's loss from its own row: no batch mean, norm or contrast",
            )


def _square(rows: Tensor) -> Tensor:
    square: Tensor = torch.linalg.vector_norm(rows, dim=1).square_()
    return square


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
