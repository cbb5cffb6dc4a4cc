"""What the gateway answers when it refuses: an RFC 9457 problem document as an exception.

Must not know HTTP.  Theory: `code` is stable, so a caller branches on it and shows the rest to people.
"""

from collections.abc import Mapping
from typing import Any


class GatewayProblem(Exception):  # noqa: N818 - named for what the API calls it
    """A refusal. `code` is the last part of the problem's `type`; `extra` is everything that is not in every problem."""

    _COMMON = frozenset({"type", "title", "status", "detail", "remedy", "code", "request_id"})

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(document.get("code", "unknown"))
        self.title = str(document.get("title", "no problem document"))
        self.detail = str(document.get("detail", ""))
        self.remedy = str(document.get("remedy", ""))
        self.request_id = str(document.get("request_id", ""))
        self.extra = {name: value for name, value in document.items() if name not in self._COMMON}
        super().__init__(f"{status} {self.code}: {self.detail or self.title}")
