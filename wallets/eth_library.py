"""eth-account, loaded when it is first needed: it takes seconds to import and most processes never sign a transaction.

Must not know what it is used for.  Theory: the library stays outside every hot and every short-lived path; whoever needs
it asks here, and pays once.
"""

import importlib
from functools import cache
from typing import Any


@cache
def eth_account() -> Any:  # noqa: ANN401 - a module; its own stubs are not strict either
    """Return the `eth_account` module."""
    return importlib.import_module("eth_account")
