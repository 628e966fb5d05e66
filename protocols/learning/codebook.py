"""What a diffusion gains from knowing the codewords among its latents: it says how likely each label is.

The noisy latent speaks too: a label whose codeword lies nearer is likelier, by exactly what Gaussian noise of that
strength implies (Bayes). The denoised latent is the mean of the codewords, and training minimises the cross-entropy
of the true label, as in latent diffusions over embedded categories (CDCD, Dieleman et al., arXiv 2211.15089).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from protocols.learning.layout import Book


class Codebook(nn.Module):
    """All labels of all blocks side by side; work on them knows no loop over columns.

    Attributes:
        words: codewords [labels, width] in the standardised latents' units, 0 outside of their block.
        blocks: which block [labels] a label belongs to.
        named: whether a dimension [width] belongs to a block.
        labels, count, numbers: how many labels, blocks, and dimensions of no block there are.
    """

    words: Tensor
    blocks: Tensor
    named: Tensor

    def __init__(self, words: Tensor, blocks: Tensor, named: Tensor) -> None:
        super().__init__()
        for name, tensor in (("words", words), ("blocks", blocks), ("named", named)):
            self.register_buffer(name, tensor)
        self.labels = len(words)
        self.count = int(blocks.max()) + 1 if self.labels else 0
        self.numbers = int((~named).sum())

    @classmethod
    def of(cls, books: Sequence[Book], mean: Tensor, spread: Tensor) -> Codebook:
        """The books of latents that were standardised by this mean and spread [width].

        Args:
            books: none where a silo has quantities alone.
            mean: of the latents.
            spread: of the latents; 0 where a dimension is constant.
        """
        words = torch.zeros(sum(len(book.words) for book in books), len(mean), device=mean.device)
        named = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
        first = 0
        for book in books:
            labels, width = book.words.shape
            dimensions = slice(book.first, book.first + width)
            given = torch.from_numpy(book.words).to(mean.device) - mean[dimensions]
            scale = spread[dimensions]
            words[first : first + labels, dimensions] = torch.where(scale > 0, given / scale, 0.0)
            named[dimensions] = True
            first += labels
        sizes = torch.tensor([len(book.words) for book in books], dtype=torch.int64, device=mean.device)
        return cls(words, torch.repeat_interleave(torch.arange(len(books), device=mean.device), sizes), named)

    def numbers_of(self, values: Tensor) -> Tensor:
        """Values [n, width] of the dimensions of no block; 0 elsewhere. A GPU need not wait to learn how many."""
        return values.masked_fill(self.named, 0.0)

    def expected(self, logits: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The mean codewords [n, width] of labels as likely as a network and the noisy latents say; 0 elsewhere.

        Args:
            logits: the network's word [n, labels].
            noisy: latents [n, width] with noise of strength sigma [n, 1].
            sigma: that strength.
        """
        return self._log_shares(self._heard(logits, noisy, sigma)).exp() @ self.words

    def loss(self, logits: Tensor, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The cross-entropy [n] of the labels of clean latents [n, width]; other arguments as those of `expected`."""
        return self.entropy(self._heard(logits, noisy, sigma), clean)

    def entropy(self, logits: Tensor, clean: Tensor) -> Tensor:
        """The cross-entropy [n] of the labels of clean latents [n, width], summed over the blocks."""
        return -(self._log_shares(logits) * self._chosen(self._nearness(clean))).sum(dim=1)

    def drawn(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """The codewords [n, width] of labels drawn as logits [n, labels] say; 0 elsewhere."""
        # the greatest of logits with Gumbel noise is a draw from their softmax
        uniform = torch.rand(logits.shape, generator=generator).clamp(1e-9, 1 - 1e-7)
        return self._chosen(logits - (-uniform.log()).log()) @ self.words

    def _heard(self, logits: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The network's word and that of the latents; the less noise, the louder both, lest one drown the other."""
        return logits * (1 + 1 / sigma**2).sqrt() + self._nearness(noisy) / sigma**2

    def _log_shares(self, logits: Tensor) -> Tensor:
        scores = logits - self._most(logits)
        sums = scores.new_zeros(len(scores), self.count).index_add(1, self.blocks, scores.exp())
        return scores - sums.log()[:, self.blocks]

    def _nearness(self, x: Tensor) -> Tensor:
        """Minus half the squared distance [n, labels] to each codeword, up to what a block's labels have in common."""
        with torch.autocast(x.device.type, enabled=False):
            return x @ self.words.T - self.words.square().sum(dim=1) / 2

    def _chosen(self, scores: Tensor) -> Tensor:
        """1 for the label of the greatest score in each block, 0 for the others."""
        return (scores >= self._most(scores)).to(scores.dtype)

    def _most(self, scores: Tensor) -> Tensor:
        """The greatest score of each label's block [n, labels]."""
        most = scores.new_full((len(scores), self.count), -torch.inf)
        most = most.scatter_reduce(1, self.blocks.expand(len(scores), -1), scores.detach(), "amax")
        return most[:, self.blocks]
