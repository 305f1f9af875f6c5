"""Convolve whole numbers by bytes, two to four times as fast as in fp32 and as exact.

Processors with AVX-512 VNNI or AMX add products of unsigned and signed bytes in 32-bit integers, and oneDNN convolves
with that. torch returns the sums in fp32, exact below 2^24. Other processors have such
convolutions too, but add pairs of products in 16 bits, which may overflow, and gain little.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LARGEST_VALUE, LARGEST_WEIGHT = 2**8 - 1, 2**7 - 1
# A weight that is no signed byte is cut in two: BASE times one whole number, plus a smaller one.
BASE = 2**6
_INSTRUCTIONS = ("avx512_vnni", "amx_int8")


def convolves(values: Tensor, *, largest_value: int, largest_weight: int) -> bool:
    """Tell whether :func:`convolution` is exact for such numbers, and faster than fp32 on the device of ``values``."""
    fits = largest_value <= LARGEST_VALUE and largest_weight <= LARGEST_WEIGHT * BASE
    return fits and values.device.type == "cpu" and _is_fast()


def convolution(
    values: Float[Tensor, "sample in height width"],
    weight: Float[Tensor, "out in_of_group k_rows k_columns"],
    *,
    largest_value: int,
    largest_weight: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Float[Tensor, "sample out rows columns"]:
    """Convolve as :func:`torch.nn.functional.conv2d` does: whole numbers 0 to 255, with weights that are whole numbers.

    No value may be larger than ``largest_value``, no weight than ``largest_weight``, and no sum than 2^24. The result
    is in fp32, its channels last in memory.
    """
    unsigned = _bytes(values.contiguous(memory_format=torch.channels_last), largest_value)
    if largest_weight <= LARGEST_WEIGHT:
        return _sums(unsigned, weight, stride=stride, padding=padding, groups=groups)
    high = (weight / BASE).round()
    low = _sums(unsigned, weight - BASE * high, stride=stride, padding=padding, groups=groups)
    return low.add_(_sums(unsigned, high, stride=stride, padding=padding, groups=groups), alpha=BASE)


def _bytes(values: Tensor, largest_value: int) -> Tensor:
    """Convert whole numbers to unsigned bytes; directly from fp32 torch would convert them one by one, not by
    vectors."""
    if largest_value <= torch.iinfo(torch.int8).max:
        return values.to(torch.int8).view(torch.uint8)
    return values.to(torch.int32).to(torch.uint8)


def _sums(values: Tensor, weight: Tensor, *, stride: tuple[int, int], padding: tuple[int, int], groups: int) -> Tensor:
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int64)
    strides, paddings, dilations = list(stride), list(padding), [1] * 2
    packed = torch.ops.onednn.qconv_prepack(
        weight.to(torch.int8), ones, 1.0, 0, strides, paddings, dilations, groups, list(values.shape)
    )
    # torch's quantization with a scale of 1 and a zero of 0 everywhere: whole numbers.
    sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
        *(values, 1.0, 0),
        *(packed, ones, zeros, None),
        *(strides, paddings, dilations, groups),
        *(1.0, 0, torch.float32),
        *("none", [], ""),
    )
    return sums


@cache
def _is_fast() -> bool:
    """Tell whether this processor has the instructions, and this torch the convolution.

    The convolution is not among torch's public functions, so that a first result is compared with a known one.
    """
    capabilities = torch.cpu.get_capabilities()
    if not any(capabilities.get(name) for name in _INSTRUCTIONS):
        return False
    values = torch.arange(200).add(50).remainder(LARGEST_VALUE + 1).view(2, 4, 5, 5).float()
    weight = torch.arange(288).mul(7).remainder(2 * LARGEST_WEIGHT + 1).sub(LARGEST_WEIGHT).view(8, 4, 3, 3).float()
    try:
        found = convolution(values, weight, largest_value=LARGEST_VALUE, largest_weight=LARGEST_WEIGHT, padding=(1, 1))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found.double(), F.conv2d(values.double(), weight.double(), padding=1))
