"""What graphics memory this process holds, for whoever watches it; looks without loading or waking anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping


def memory() -> Mapping[str, float]:
    """Bytes on all devices that this process has touched: `used` by tensors, `reserved` for them, `total` there is.

    Zeros as long as nothing was computed on a device.
    """
    torch = sys.modules.get("torch")  # an agent that has computed nothing has not imported it, and shall not now
    # while another thread imports it, it is there and has no parts yet
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return {"used": 0.0, "reserved": 0.0, "total": 0.0}
    touched = [index for index in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(index)]
    return {
        "used": float(sum(torch.cuda.memory_allocated(index) for index in touched)),
        "reserved": float(sum(torch.cuda.memory_reserved(index) for index in touched)),
        "total": float(sum(torch.cuda.get_device_properties(index).total_memory for index in touched)),
    }
