"""How much is computed: the operations of matrix products, convolutions and attention, by torch's own formulas (a multiplication and an addition are two).

Left out: what is done number by number (activations, norms, look-ups), and what is computed outside torch.
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counted(TorchDispatchMode):
    """`total`: the operations of what is computed within it. (torch's FlopCounterMode brings in a compiler: two seconds.)"""

    now: ClassVar[Counted | None] = None  # the one at work, for a model that another process computes (`foreign.remote`)
    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __enter__(self) -> Counted:
        """Layers that one fused operation computes whole (an LSTM's, a transformer's) take their long way, each of whose steps has a formula."""
        self.after = contextlib.ExitStack()
        self.after.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())
        torch._C._set_mkldnn_enabled(False)
        self.after.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        Counted.now = self
        return super().__enter__()

    def __exit__(self, *how: Any) -> None:
        Counted.now = None
        super().__exit__(*how)
        self.after.close()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.total += 0 if count is None else count(*args, **(kwargs or {}), out_val=out)
        return out
