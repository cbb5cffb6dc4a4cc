"""What rate-limit headers say, by whatever clock they say it."""

from email.utils import formatdate

import pytest
from multidict import CIMultiDict

from gateway.flow.limit_headers import LONGEST_MS, Said, rate_limit, retry_after_ms

NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000


def date(ahead_s: int) -> str:
    """An HTTP date."""
    return formatdate(NOW_S + ahead_s, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "span_ms"),
    [
        ({}, None),
        ({"retry-after": "42"}, 42_000),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "99999999"}, LONGEST_MS),
        ({"Retry-After": "9" * 500}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "٤٢"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": date(30)}, 31_000),
        ({"Retry-After": date(-30)}, 0),
        ({"Retry-After": date(7230), "Date": date(7200)}, 31_000),
        ({"Retry-After": date(-3570), "Date": date(-3600)}, 31_000),
        ({"Retry-After": "Fri, 99 Foo 2027 99:99:99 GMT"}, None),
        ({"Retry-After": "Fri, 31 Dec 99999999999 23:59:59 GMT"}, None),
        ({"Retry-After": "Fri, 15 Jan 2027 08:00:30"}, 31_000),
    ],
)
def test_retry_after(headers: dict[str, str], span_ms: int | None) -> None:
    """Seconds, or a date less the answer's own; bounded, and None for whatever else."""
    assert retry_after_ms(CIMultiDict(headers), NOW_MS) == span_ms


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("120", "87", str(NOW_S + 20)), Said(120, 87, 21_000)),
        (("120", "0", "20"), Said(120, 0, 20_000)),
        ((None, "3", str(NOW_S)), Said(0, 3, 1_000)),
        (("x", "3", str(NOW_S + 10**6)), Said(0, 3, LONGEST_MS)),
        (("120", None, str(NOW_S)), None),
        (("120", "87", None), None),
        (("120", "-1", str(NOW_S)), None),
        (("120", "87", "later"), None),
    ],
)
def test_rate_limit(values: tuple[str | None, ...], said: Said | None) -> None:
    """Remaining and reset together, an instant or a span; the same by a clock that is an hour off."""
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    headers = CIMultiDict({name: value for name, value in zip(names, values, strict=True) if value is not None})
    assert rate_limit(headers, NOW_MS) == said
    assert rate_limit(CIMultiDict(headers, Date=date(0)), NOW_MS + 3_600_000) == said
