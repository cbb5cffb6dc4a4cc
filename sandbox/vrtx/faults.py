"""VRTX's own fault kinds, over those that all account vendors have (`shared_vendor.faults`).

- `noise`           {mode} (standing): money numbers with `last_digits` of floats, or with an `exponent`.
- `hypervisor`      {value, of}: the next status answer (of that server) has this `state`; the common kind `state` sets
                    `status`. A server whose `provision` is `error` ends with the status `install_failed`, and no event.
- `short_collision` {}: the next server's uuid begins with the same eight characters as the account's newest.
- `webhook`         {mode, event, after_s}: the next event (of that type) is `drop`ped, sent in `duplicate`, `forge`d
                    (signed with another secret), `tamper`ed with (signed, then changed), or `late` by `after_s`.
"""

from __future__ import annotations

from sandbox.shared_vendor.faults import Kind
from sandbox.shared_vendor.noise import NOISE

KINDS = {
    **NOISE,
    "hypervisor": Kind({"value": "", "of": None}),
    "short_collision": Kind(),
    "webhook": Kind(
        {"mode": "drop", "event": None, "after_s": 0}, {"mode": ("drop", "duplicate", "forge", "tamper", "late")}
    ),
}
