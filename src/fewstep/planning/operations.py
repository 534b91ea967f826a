"""Floating-point operations of some work, by torch's counter; a multiply-add is two."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def flops(work: Callable[[], object]) -> int:
    """The operations of the matrix products, convolutions and attentions of `work`."""
    with FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter:
        work()
    return int(counter.get_total_flops())


def attention_flops(
    query: Shape, key: Shape, value: Shape, *rest: Any, out_shape: Any = None, **named: Any
) -> int:
    """Of softmax(q kᵀ) v, shapes [B, heads, N, d]: two matrix products."""
    batch, heads, n, d = query
    return 2 * batch * heads * n * key[2] * (d + value[3])


def _backward_flops(slope: Shape, query: Shape, key: Shape, value: Shape, *rest: Any, **named: Any) -> int:
    """Five matrix products, as torch counts them elsewhere: q kᵀ again, and two slopes of either product."""
    return attention_flops(query, key, value) * 5 // 2


# The fused attention of a CPU, which torch's counter does not know.
_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}
