"""Training of adversarial autoencoders: reconstruction, and a game about where codes lie."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from detectors.neural.training import descend


class LatentGame:
    """The three steps of a minibatch: rebuild; tell codes from draws of N(0, I); deceive.

    Parameters
    ----------
    encoder, decoder, discriminator : Sequential
        (n, d) -> (n, k) -> (n, d), and (n, k) -> the logit that a code is a draw of N(0, I), (n, 1).
    rates : tuple of two floats
        Learning rates of the reconstruction and of the game.
    momentum : float
        beta_1 of Adam in the game.
    noise : float
        Standard deviation of the noise on rows that are rebuilt.
    generator : torch.Generator
    """

    def __init__(
        self,
        *,
        encoder: nn.Sequential,
        decoder: nn.Sequential,
        discriminator: nn.Sequential,
        rates: tuple[float, float],
        momentum: float,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        self.encoder, self.decoder, self.discriminator = encoder, decoder, discriminator
        self._noise, self._generator = noise, generator
        rebuilding = [*encoder.parameters(), *decoder.parameters()]
        betas = (momentum, 0.999)
        self._rebuild = torch.optim.Adam(rebuilding, lr=rates[0])
        self._tell = torch.optim.Adam(discriminator.parameters(), lr=rates[1], betas=betas)
        self._deceive = torch.optim.Adam(encoder.parameters(), lr=rates[1], betas=betas)

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained."""
        return [self.encoder, self.decoder, self.discriminator]

    def step(self, batch: torch.Tensor) -> None:
        """Rebuild, tell apart, deceive."""
        noisy = batch + self._noise * torch.randn(batch.shape, generator=self._generator)
        descend(self._rebuild, mse_loss(self.decoder(self.encoder(noisy)), batch))
        descend(self._tell, self.telling_loss(self.encoder(batch).detach()))
        descend(self._deceive, self.deceiving_loss(self.encoder(batch)))

    def telling_loss(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the discriminator: draws are 1, codes are 0."""
        drawn = self.discriminator(torch.randn(codes.shape, generator=self._generator))
        found = self.discriminator(codes)
        return binary_cross_entropy_with_logits(drawn, torch.ones_like(drawn)) + (
            binary_cross_entropy_with_logits(found, torch.zeros_like(found))
        )

    def deceiving_loss(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of calling the codes draws."""
        found = self.discriminator(codes)
        return binary_cross_entropy_with_logits(found, torch.ones_like(found))

    def error(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of rebuilding rows."""
        return mse_loss(self.decoder(self.encoder(rows)), rows)

    @torch.no_grad()
    def told_apart(self, rows: torch.Tensor) -> float:
        """Return the share of codes and of as many draws that the discriminator gets right."""
        codes = self.encoder(rows)
        drawn = torch.randn(codes.shape, generator=self._generator)
        right = torch.cat([self.discriminator(codes) < 0, self.discriminator(drawn) > 0])
        return float(right.float().mean().item())
