"""LiteVPS's own fault kinds, over those that all account vendors have (`shared_vendor.faults`).

- `token`      {after_s}: the next JWT ends so soon, whatever it says.
- `noise`      {mode} (standing): money numbers with `last_digits` of floats, or with an `exponent`.
- `batch_item` {index, status, error}: that item of the next batch fails with this error; the others are done.
- `exec`       {mode}: the next command is `lost` (run, but the reply is 502), or `hangs` until its timeout.
- `stop_fails` {}: the next machine that is told to stop never does.
"""

from __future__ import annotations

from sandbox.shared_vendor.faults import Kind
from sandbox.shared_vendor.noise import NOISE
from sandbox.shared_vendor.tokens import TOKEN

KINDS = {
    **TOKEN,
    **NOISE,
    "batch_item": Kind({"index": 0, "status": 500, "error": "internal error"}),
    "exec": Kind({"mode": "lost"}, {"mode": ("lost", "hangs")}),
    "stop_fails": Kind(),
}
