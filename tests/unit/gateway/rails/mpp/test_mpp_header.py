"""Reading WWW-Authenticate: lines, joined lines, other schemes, quoting, and what no two parsers read alike."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rails.codes import Problem
from gateway.rails.mpp.header import MAX_CHALLENGES, MAX_FIELD_CHARS, MAX_PARAMS, read_payment_params
from gateway.rails.problems import ChallengeError


def values(*lines: str) -> list[dict[str, str]]:
    """The parameters of each challenge."""
    return [params.values for params in read_payment_params(lines)]


def outcome(*lines: str) -> tuple[list[dict[str, str]], Problem | None]:
    """The parameters of each challenge, or the code of the refusal."""
    try:
        return values(*lines), None
    except ChallengeError as error:
        return [], error.code


def code_of(*lines: str) -> Problem:
    """Why the lines are refused."""
    with pytest.raises(ChallengeError) as caught:
        read_payment_params(lines)
    return caught.value.code


@pytest.mark.parametrize(
    "lines",
    [
        ('Payment id="1", realm="a"', 'Payment id="2", realm="b"'),
        ('Payment id="1", realm="a", Payment id="2", realm="b"',),
        ('Basic realm="x", Payment id="1",realm="a" , pAYMENT ID=2 ,Realm = "b", Bearer',),
        ('Negotiate YIIabc==, Payment id="1", realm=a', 'Bearer error="Payment id=\\"9\\""', "PAYMENT\tid=2,realm=b,"),
        (', , Payment  id="1",, realm="a"', 'Bearer uri=https://x.example/a?b, Payment id="2", realm="b"'),
        ('Payment id="1", realm="a"', "", 'Basic realm="never closed', 'Payment id="2", realm="b"'),
    ],
)
def test_challenges_are_found_however_they_are_laid_out(lines: tuple[str, ...]) -> None:
    """Several lines, one joined line, other schemes between, odd spacing and case: the same two challenges."""
    assert values(*lines) == [{"id": "1", "realm": "a"}, {"id": "2", "realm": "b"}]


@pytest.mark.parametrize("lines", [(), ("",), ("Bearer",), ('Basic realm="Payment id=1"',), ("Paymentx id=1",)])
def test_other_schemes_hold_no_challenge(lines: tuple[str, ...]) -> None:
    """A scheme is a whole word outside quotes."""
    assert values(*lines) == []


@pytest.mark.parametrize(
    ("quoted", "value"),
    [
        (r'"a\"b\\c"', r'a"b\c'),
        (r'"a, Payment id=\"x\""', 'a, Payment id="x"'),
        (r'"\u2014 \ud83d\ude80"', "— 🚀"),
        (r'"\\u2014"', r"\u2014"),
        (r'"\uZZ"', "uZZ"),
        ('""', ""),
        ('"caf\u00e9\t!"', "caf\u00e9\t!"),
        ("a=b", "a=b"),
    ],
)
def test_quoted_strings_are_unescaped(quoted: str, value: str) -> None:
    """RFC 9110's quoted pairs, and the UTF-16 escapes of the SDKs."""
    assert values(f"Payment description={quoted}, id=1") == [{"description": value, "id": "1"}]


@pytest.mark.parametrize(
    "line",
    [
        'Payment id="1',
        'Payment id="1\\"',
        'Payment id="1" realm="a"',
        'Payment id="1"x',
        "Payment id=a b",
        'Payment id="a\nb"',
        'Payment id="a\x00b"',
        'Payment id="a\\\x00b"',
        'id="1", Payment id="2"',
        'Bearer Payment id="1"',
        'Payment id="\\u0041"',
        'Payment id="\\ud83d"',
        'Payment id="1", "2"',
        "Payment id=1; realm=a",
        "Payment =1",
        "Payment " + ",".join(f"p{i}=1" for i in range(MAX_PARAMS + 1)),
    ],
)
def test_a_line_outside_the_grammar_is_malformed(line: str) -> None:
    """Where another parser might see another challenge there is none."""
    assert code_of(line) is Problem.CHALLENGE_MALFORMED


def test_a_repeated_parameter_is_named_and_spoils_only_its_challenge() -> None:
    """Names are case-insensitive, so `id` and `ID` are one."""
    first, second = read_payment_params(['Payment id="1", ID="2", Payment id="3"'])
    assert (first.repeated, second.repeated, second.values) == ("id", "", {"id": "3"})


def test_a_scheme_without_parameters_is_an_empty_challenge() -> None:
    """It is there, and it says nothing."""
    assert values("Payment", "Payment abc=", "Payment id=") == [{}, {}, {}]


def test_limits_are_inclusive() -> None:
    """As much as the limits say is read, and no more."""
    line = "Payment " + ",".join(f"p{i}=1" for i in range(MAX_PARAMS))
    assert len(values(line)[0]) == MAX_PARAMS
    assert len(values(*["Payment id=1"] * MAX_CHALLENGES)) == MAX_CHALLENGES
    assert code_of(*["Payment id=1"] * (MAX_CHALLENGES + 1)) is Problem.CHALLENGE_OVERSIZED
    exact = "Payment id=" + "a" * (MAX_FIELD_CHARS - len("Payment id="))
    assert len(values(exact)[0]["id"]) == MAX_FIELD_CHARS - len("Payment id=")
    assert code_of(exact + "a") is Problem.CHALLENGE_OVERSIZED
    assert code_of(exact, "b") is Problem.CHALLENGE_OVERSIZED


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('Payment id="' + "\\" * 60_000, Problem.CHALLENGE_MALFORMED),
        ("Payment id=" + "a" * 60_000 + '"', Problem.CHALLENGE_MALFORMED),
        ("Payment " + " " * 60_000 + "x", None),
        ("Payment" * 9_000, None),
        ("a," * 30_000, None),
    ],
    ids=["escapes", "token", "spaces", "word", "list"],
)
def test_a_hostile_line_is_read_in_one_pass(text: str, code: Problem | None) -> None:
    """No text makes the parser go back over it: this returns at once, or the suite's time-out fails it."""
    assert len(text) <= MAX_FIELD_CHARS
    assert outcome(text)[1] is code


PIECES = st.sampled_from(
    [
        "Payment",
        "payment ",
        "Bearer ",
        "id",
        "realm",
        "=",
        '"',
        ",",
        " ",
        "\\",
        "\\u",
        "\\ud83d",
        "0041",
        "é",
        "\x00",
        "\t",
    ]
)


@settings(max_examples=300)
@given(st.lists(st.one_of(st.lists(PIECES, max_size=20).map("".join), st.text(max_size=40)), max_size=4))
def test_nothing_but_a_challenge_error_ever_comes_out(lines: list[str]) -> None:
    """Whatever a vendor sends is challenges, none, or the one typed error."""
    found, code = outcome(*lines)
    assert code in {None, Problem.CHALLENGE_MALFORMED, Problem.CHALLENGE_OVERSIZED}
    assert all(name == name.lower() for params in found for name in params)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=30), min_size=1, max_size=6))
def test_what_an_sdk_writes_is_what_is_read(params: dict[str, str]) -> None:
    """Escaping as the SDKs do it and reading it back is the identity, for every text that a header may carry."""

    def quoted(text: str) -> str:
        units = text.encode("utf-16-be")
        pairs = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
        return "".join(
            f"\\u{unit:04x}" if unit > 0xFF else "\\" + chr(unit) if chr(unit) in '"\\' else chr(unit) for unit in pairs
        )

    sendable = {
        name: "".join(c for c in text if c == "\t" or not (ord(c) < 0x20 or ord(c) == 0x7F))
        for name, text in params.items()
    }
    line = "Payment " + ", ".join(f'{name}="{quoted(text)}"' for name, text in sendable.items())
    assert values(line, line) == [sendable, sendable]
