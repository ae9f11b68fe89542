"""What the reference's operations promise, and so which inputs leave nothing open.

Tables of names only: the reference's runner fills in the record, the judge reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SELECTING = """
argmax argmin max min amax amin maximum minimum clamp relu where gt ge lt le eq ne isnan isinf any
all logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not neg abs sign view
_unsafe_view reshape expand permute transpose t squeeze unsqueeze slice select split unbind clone
copy contiguous alias detach cat stack gather index_select flip full zeros ones full_like zeros_like
ones_like empty empty_like arange bucketize searchsorted stable_sort
"""
SELECTING = frozenset(_SELECTING.split())
"""Operations that compare and pick without arithmetic, and whose choice among equals is documented:
`argmax` and the indices of `max` take the first, a stable sort keeps the order. `topk` and other
sorts promise nothing."""

_SMOOTH = """
mm addmm bmm baddbmm mv addmv dot convolution add sub rsub mul div addcmul addcdiv neg reciprocal
square sqrt rsqrt pow exp exp2 expm1 log log2 log1p sin cos tanh sigmoid silu gelu erf log_sigmoid
log_sigmoid_forward sum mean var var_mean cumsum _softmax _log_softmax
native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit mse_loss
nll_loss_forward nll_loss2d_forward embedding view _unsafe_view reshape
expand permute transpose t squeeze unsqueeze slice select split unbind clone copy contiguous alias
detach cat stack flip full zeros ones full_like zeros_like ones_like empty empty_like arange
_to_copy masked_fill tril triu avg_pool2d
"""
SMOOTH = frozenset(_SMOOTH.split())
"""Operations with one gradient wherever they have a value."""
SETTLED = SMOOTH | {"relu", "abs", "leaky_relu", "where", "gt", "ge", "lt", "le", "eq", "ne"}
"""And those with one for every number: which branch is taken stands in the reference, and the
others have the subgradient of least norm at zero, as PyTorch documents. `max`, `clamp` and the
like leave open who of equals gets the gradient."""

IGNORING = {"nll_loss_forward": 4, "nll_loss2d_forward": 4}
"""Operations with an integer that marks elements to be left out, and which argument that is."""
COMPARING = frozenset(("eq.Scalar", "ne.Scalar"))
ORDERING = frozenset(("ge.Scalar", "gt.Scalar", "le.Scalar", "lt.Scalar"))
"""What they compare integers with has a meaning, and so has what lies beside it."""
MOST_MARKERS = 12
_WHOLE = (-2.0, -1.0, 0.0, 1.0, 2.0)
STEPS = {
    "round": (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5),
    "floor": _WHOLE,
    "ceil": _WHOLE,
    "trunc": _WHOLE,
    "frac": _WHOLE,
    "sign": (0.0,),
}
"""Operations that leap, and where."""
MOST_THRESHOLDS = 64


@dataclass(frozen=True)
class Traits:
    """Of one workload's reference; as cautious as can be where it could not be followed."""

    selects: bool = False
    """It compares and picks without arithmetic, gradients too: equal values leave nothing open."""
    settled: bool = False
    """Its gradients are defined where inputs are equal or zero."""
    smooth: bool = False
    """Its gradients are defined even for what is not a number."""
    truncates: bool = True
    """It converts floats to integers, which is defined within the integers' range only."""
    markers: tuple[int, ...] = ()
    """Integers with a meaning of their own: `ignore_index`, or what it compares integers with."""
    thresholds: tuple[float, ...] = ()
    """Where a comparison of its float inputs, or their rounding, changes its mind."""

    @classmethod
    def parse(cls, reply: Mapping[str, Any]) -> "Traits":
        """From what the reference's runner saw."""
        several = {name: tuple(reply[name]) for name in ("markers", "thresholds")}
        return cls(**{**reply, **several})
