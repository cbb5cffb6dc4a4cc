"""CryptoVPS's own fault kinds, over those that all account vendors have (`shared_vendor.faults`).

- `token`        {after_s}: the next token ends so soon, whatever it says.
- `backup`       {mode}: the next backup ends in `error`, or is `never` available.
- `partial_bulk` {made}: the next bulk order makes only so many servers, and answers with those.
"""

from __future__ import annotations

from sandbox.shared_vendor.faults import Kind
from sandbox.shared_vendor.tokens import TOKEN

KINDS = {
    **TOKEN,
    "backup": Kind({"mode": "error"}, {"mode": ("error", "never")}),
    "partial_bulk": Kind({"made": 1}),
}
