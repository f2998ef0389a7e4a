"""Convolutional image towers, brought into the form in which they are fast; what they compute stays the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_MANY = 8
"""A vision transformer has one convolution, which cuts the picture into patches."""


def layout_of(network: Any) -> torch.memory_format:
    """How pictures should lie in memory for the image tower of `network`."""
    count = sum(isinstance(m, nn.Conv2d) for m in network.visual.modules())
    return torch.channels_last if count >= _MANY else torch.contiguous_format


def reparameterize(network: Any) -> Any:
    """`network` with the branches of its convolutions folded into one each, where it was made for that; up to rounding the same.

    FastViT, and so MobileCLIP, trains three branches side by side and says how they add up to one (Vasu et al. 2023).
    """
    from timm.models import reparameterize_model

    network.visual = reparameterize_model(network.visual, inplace=True).to(memory_format=torch.channels_last)
    return network
