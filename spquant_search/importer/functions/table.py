"""Which torch functions have a form, by the names that torch calls them when they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spquant_search.importer.functions import arithmetic, layout, pooling
from spquant_search.importer.refusals import Refused

Form = Callable[..., Any]  # of a Call and what the function is given; returns Followed, None or a list of them

_UNCHANGED = (
    *("detach", "data", "real", "contiguous", "clone", "alias", "lift_fresh", "requires_grad", "cpu", "cuda"),
    *("to", "float", "double", "half", "bfloat16", "type", "type_as"),
)
_CONSTANT = (
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"),
)

FORMS: Mapping[str, Form] = {
    **dict.fromkeys(_UNCHANGED, layout.unchanged),
    **dict.fromkeys(_CONSTANT, layout.constant),
    **dict.fromkeys(("reshape", "view", "unflatten", "view_as", "reshape_as"), layout.reshape),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), layout.transpose),
    **dict.fromkeys(("movedim", "moveaxis"), layout.movedim),
    "T": layout.reversed_dimensions,
    **dict.fromkeys(("unbind", "iter"), layout.unbind),
    **dict.fromkeys(("cat", "concat", "concatenate"), layout.cat),
    **dict.fromkeys(("repeat", "expand", "expand_as", "tile", "broadcast_to"), layout.repeat),
    "repeat_interleave": layout.repeat_interleave,
    "flatten": layout.flatten,
    "unsqueeze": layout.unsqueeze,
    "squeeze": layout.squeeze,
    "permute": layout.permute,
    "select": layout.select,
    "getitem": layout.getitem,
    "setitem": layout.setitem,
    "stack": layout.stack,
    **dict.fromkeys(("add", "iadd", "radd"), arithmetic.add),
    **dict.fromkeys(("sub", "isub", "subtract"), arithmetic.sub),
    **dict.fromkeys(("mul", "imul", "rmul", "multiply"), arithmetic.mul),
    **dict.fromkeys(("div", "truediv", "itruediv", "true_divide", "divide"), arithmetic.div),
    **dict.fromkeys(("neg", "negative"), arithmetic.neg),
    **dict.fromkeys(("conv1d", "conv2d"), arithmetic.convolution),
    **dict.fromkeys(("matmul", "mm"), arithmetic.matmul),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"), arithmetic.dropout),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), pooling.average_pool),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), pooling.max_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), pooling.adaptive_average_pool),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), pooling.adaptive_max_pool),
    "rsub": arithmetic.rsub,
    "linear": arithmetic.linear,
    "addmm": arithmetic.addmm,
    "batch_norm": arithmetic.batch_norm,
    "softmax": arithmetic.softmax,
    "log_softmax": arithmetic.log_softmax,
    "pad": arithmetic.pad,
    "mean": pooling.mean,
    "sum": pooling.sum_of,
    "max": pooling.largest,
    "amax": pooling.amax,
}

# Code of Python may decide something by what these return.
READ_OUT_OF_TORCH = frozenset(
    ("bool", "item", "tolist", "numpy", "float", "int", "index", "array", "equal", "allclose", "nonzero")
)

_HINTS: Mapping[str, tuple[str, ...]] = {
    "a comparison: a neuron or an encoder of its own?": (
        *("gt", "ge", "lt", "le", "eq", "ne", "greater", "less", "heaviside", "sign", "where", "bernoulli"),
    ),
    "an activation that is no neuron": (
        *("relu", "silu", "gelu", "sigmoid", "tanh", "leaky_relu", "elu", "clamp", "clip"),
    ),
    "a norm by the statistics of each sample": ("layer_norm", "group_norm", "instance_norm", "rms_norm"),
    "it takes a part of a signal, or puts it into another order": (
        *("chunk", "split", "index_select", "gather", "narrow", "roll", "flip"),
    ),
    "a product of two signals: attention": ("bmm", "baddbmm", "einsum", "scaled_dot_product_attention"),
    "it makes a signal larger": ("interpolate", "upsample", "pixel_shuffle", "conv_transpose2d", "conv_transpose1d"),
    "signals have at most two dimensions beside time": ("conv3d", "max_pool3d", "avg_pool3d"),
}


def hint(name: str) -> Refused:
    """Return why a function has no form."""
    known = [why for why, names in _HINTS.items() if name in names]
    return Refused("this function has no form" + "".join(f": {why}" for why in known))
