"""Times: one text for each moment, one moment for each text, and nothing else is read."""

import pytest

from gateway.core.times import next_month, parse_time_ms, utc_text


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1_000),
        ("1970-01-01T00:00:01.0019Z", 1_001),
        ("1970-01-01T00:00:01.999999999Z", 1_999),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-23:59", 86_340_000),
        ("2024-02-29T12:00:00+05:30", 1_709_188_200_000),
        ("0001-01-01T00:00:00+23:00", -62_135_679_600_000),
        ("9999-12-31T23:59:59.999-23:00", 253_402_383_599_999),
    ],
)
def test_a_time_is_read_as_its_moment(text: str, at_ms: int) -> None:
    """With its zone, cut below the millisecond, and never rounded into the next one."""
    assert parse_time_ms(text) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-01-01T00:00Z",
        "19700101T000000Z",
        "1970-W01-4T00:00:00Z",
        "1970-1-1T00:00:00Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00,5Z",
        "1970-01-01T00:00:00.1234567890Z",
        "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+01",
        "1970-01-01T00:00:00+01:60",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+01:00:00",
        "1970-01-01T00:00:00Z\n",
        " 1970-01-01T00:00:00Z",
        "1970-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "-1970-01-01T00:00:00Z",
        "\u0661\u0669\u0667\u0660-01-01T00:00:00Z",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    """No zone, another spelling, a day or an hour that there is not, a leap second, digits of another script."""
    with pytest.raises(ValueError, match="not a"):
        parse_time_ms(text)


@pytest.mark.parametrize("at_ms", [0, 1, -1, 1_700_000_000_123, 253_402_300_799_999])
def test_what_is_written_is_read_as_it_was(at_ms: int) -> None:
    """To the millisecond."""
    assert parse_time_ms(utc_text(at_ms)) == at_ms


def test_a_month_begins_where_the_last_one_ended() -> None:
    """Also in the next year."""
    assert utc_text(next_month(parse_time_ms("2024-12-31T23:59:59.999Z"))) == "2025-01-01T00:00:00.000Z"
