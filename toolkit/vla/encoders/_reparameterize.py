"""Reparameterization of convolutional image towers for speed, with equal outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_MIN_CONVOLUTIONS = 8
"""More than in a vision transformer: it has one convolution for its patches."""


def choose_memory_format(network: Any) -> torch.memory_format:
    """Return the memory format of images for the image tower of `network`."""
    count = sum(isinstance(m, nn.Conv2d) for m in network.visual.modules())
    return torch.channels_last if count >= _MIN_CONVOLUTIONS else torch.contiguous_format


def reparameterize(network: Any) -> Any:
    """Fold the branches of each convolution of `network` into one, and return `network`.

    FastViT, the image tower of MobileCLIP, trains three branches side by side that add up to one
    convolution (Vasu et al. 2023). Outputs are equal up to rounding.
    """
    from timm.models import reparameterize_model

    network.visual = reparameterize_model(network.visual, inplace=True).to(
        memory_format=torch.channels_last
    )
    return network
