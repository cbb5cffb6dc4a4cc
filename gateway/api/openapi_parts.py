"""What operations of the OpenAPI document are made of: headers, named shapes, problems, examples.

Must not know routes or vendors.  Theory: a shape that has a name is written once and referred to, and an example stands with
the shape that it shows, so a list of a thing shows the thing's own example and nothing is written twice.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.api.schemas import AMOUNT, AMOUNT_IN, INTEGER, PAYMENT_REQUIRED, TEXT, TIME, choice
from gateway.core.problems import TYPES

Document = dict[str, Any]

OWN_HEADERS: Final[Mapping[str, Document]] = {
    "X-Request-Id": {"schema": TEXT, "description": "yours, or one that we made; name it when you report something"},
    "X-Balance-Available": {"schema": AMOUNT, "description": "there once the key is known"},
    "X-Balance-Low": {
        "schema": TIME,
        "description": "there while the balance is about to run out: when the first thing that runs can end, at the earliest",
    },
}
PAID_HEADERS: Final[Mapping[str, Document]] = {
    "X-Payment-Id": {"schema": TEXT, "description": "the payment behind this answer: GET /v1/payments/{id}"},
    "X-Charge": {"schema": AMOUNT, "description": "what it costs; of a thing that runs, its first period at most"},
}
REPLAYED_HEADER: Final = "Idempotent-Replayed"
OTHER_HEADERS: Final[Mapping[str, Document]] = {
    REPLAYED_HEADER: {
        "schema": choice("true"),
        "description": "an earlier answer, given again; nothing was done twice",
    },
    "X-Wait": {"schema": choice("reached", "ended", "timeout"), "description": "how the wait ended"},
    "Retry-After": {"schema": {**INTEGER, "minimum": 0}, "description": "seconds"},
    "WWW-Authenticate": {
        "schema": TEXT,
        "description": "with 401 the ways to show a key; with 402 one MPP challenge a line: Payment id=…, method=…, request=…",
    },
    "PAYMENT-REQUIRED": {"schema": TEXT, "description": "x402 version 2: base64 of what to pay, or of what to sign"},
    "PAYMENT-RESPONSE": {"schema": TEXT, "description": "x402 version 2: base64 of the receipt"},
    "X-PAYMENT-RESPONSE": {"schema": TEXT, "description": "x402 version 1: base64 of the receipt"},
    "Payment-Receipt": {"schema": TEXT, "description": "MPP: base64url of the receipt"},
    "Location": {"schema": TEXT, "description": "where to ask how it stands"},
}
HEADERS: Final[Mapping[str, Document]] = {**OWN_HEADERS, **PAID_HEADERS, **OTHER_HEADERS}
IDEMPOTENCY_KEY: Final[Document] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "the same key and request again get the same answer",
    "example": "rent-1",
}
MAX_CHARGE: Final[Document] = {
    "name": "X-Max-Charge",
    "in": "header",
    "schema": AMOUNT_IN,
    "description": "USD; what is dearer at first is refused unpaid",
    "example": "5.00",
}
PAYMENTS: Final[Mapping[str, str]] = {
    "PAYMENT-SIGNATURE": "a payment by x402 version 2; one payment a request",
    "X-PAYMENT": "a payment by x402 version 1; one payment a request",
    "Payment-Authorization": "an MPP credential, where Authorization holds the API key",
    "SIGN-IN-WITH-X": "a signed sign-in message (CAIP-122)",
}
"""The headers of a request that hold what a 402 demanded."""
OF_A_VENDOR_CALL: Final = (
    "insufficient_balance",
    "budget_exhausted",
    "unpaid_delivery_limit",
    "upstream_policy_denied",
    "scope_missing",
    "vendor_busy",
    "too_many_calls",
    "too_many_open_payments",
    "exposure_capped",
    *(code for code, kind in TYPES.items() if kind.status > 501),  # noqa: PLR2004 - the vendor's, or it cannot be asked now
)
"""How a call of a vendor's own API may end, whoever makes it."""

PROBLEM_TYPE: Final = "application/problem+json"
_STATUS_WITH: Final[Mapping[int, str]] = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
_REFS: Final = "#/components/schemas/"
_NOTHING: Final = object()


class Parts:
    """The parts of a document that are kept once, by name: schemas with a title, and the answers that problems are."""

    def __init__(self) -> None:
        self.schemas: Document = {}
        self.responses: Document = {}
        self._problems: dict[tuple[str, ...], str] = {}

    def of(self, schema: Mapping[str, Any]) -> Document:
        """Return a schema with references for the named ones in it. Two of one name must be equal."""
        name = schema.get("title")
        plain = {key: self._inner(value) for key, value in schema.items() if key not in {"title", "examples"}}
        if name is None:
            return plain
        if "examples" in schema:
            plain["examples"] = schema["examples"]
        kept = self.schemas.setdefault(name, plain)
        if kept != plain:
            raise AssertionError(f"two different shapes are called {name}")
        return {"$ref": _REFS + name}

    def content(self, media_type: str, schema: Mapping[str, Any]) -> Document:
        """Return what a body of a media type is, with an example where its shape has one."""
        example = example_of(schema)
        shown = {} if example is _NOTHING else {"examples": {"one": {"value": example}}}
        return {media_type: {"schema": self.of(schema), **shown}}

    def demanded(self, why: str, tells: Iterable[str]) -> Document:
        """Return the 402 that demands a payment or a proof. `why` names the problem types that it may be, too."""
        return {
            "description": why,
            "headers": header_refs((*OWN_HEADERS, *tells)),
            "content": self.content(PROBLEM_TYPE, PAYMENT_REQUIRED),
        }

    def problems(self, codes: Iterable[str]) -> Document:
        """Return the answers that problems are, by status."""
        by_status: dict[int, list[str]] = {}
        for code in dict.fromkeys(codes):
            by_status.setdefault(TYPES[code].status, []).append(code)
        return {str(status): self._problem(status, tuple(found)) for status, found in sorted(by_status.items())}

    def _problem(self, status: int, codes: tuple[str, ...]) -> Document:
        name = self._problems.get(codes)
        if name is None:
            name = f"{status}.{codes[0]}" if len(codes) == 1 else f"{status}.{len(self._problems)}"
            self._problems[codes] = name
            self.responses[name] = problem_answer(", ".join(codes), status)
        return {"$ref": f"#/components/responses/{name}"}

    def _inner(self, value: object) -> object:
        if isinstance(value, Mapping):
            return self.of(value) if _is_schema(value) else {key: self._inner(each) for key, each in value.items()}
        return [self._inner(each) for each in value] if isinstance(value, list) else value


def example_of(schema: Mapping[str, Any]) -> object:
    """Return the first example of a schema, put together from those in it where it has none of its own.

    Returns a private mark where a part that it needs has none.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "anyOf" in schema:
        return None if {"type": "null"} in schema["anyOf"] else _NOTHING
    if schema.get("type") == "array":
        item = example_of(schema["items"])
        return [] if item is _NOTHING else [item]
    if schema.get("type") != "object" or not schema.get("properties"):
        return _NOTHING
    members = {name: example_of(schema["properties"][name]) for name in schema.get("required", ())}
    return _NOTHING if not members or _NOTHING in members.values() else members


def header_refs(names: Iterable[str]) -> Document:
    """Return references to headers of the document."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def problem_answer(description: str, status: int | None = None) -> Document:
    """Return an answer that is a problem document."""
    extra = _STATUS_WITH.get(status or 0)
    return {
        "description": description,
        "headers": header_refs((*OWN_HEADERS, *(() if extra is None else (extra,)))),
        "content": {PROBLEM_TYPE: {"schema": {"$ref": _REFS + "Problem"}}},
    }


def _is_schema(value: Mapping[str, Any]) -> bool:
    """Tell a schema from a mapping of members: members are schemas themselves, and none of them is a text."""
    return (
        isinstance(value.get("type"), str)
        or isinstance(value.get("anyOf"), list)
        or isinstance(value.get("title"), str)
    )
