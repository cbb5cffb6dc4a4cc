"""A Secret is invisible in every form that text can take on its way to a log (P10)."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import traceback

import pytest
import structlog

from wallets.secret import REDACTED, Secret

HIDDEN = "hunter2-passphrase"


def test_p10_every_text_form_is_redacted() -> None:
    """P10: repr, str, format, f-strings, percent formatting and containers show nothing."""
    secret = Secret(HIDDEN)
    forms = [repr(secret), str(secret), format(secret, ">40"), f"{secret!r:>30}", f"{secret} {secret!r}"]
    forms += [repr([secret]), repr({"k": secret}), repr((Secret(HIDDEN.encode()),))]
    assert all(HIDDEN not in form and REDACTED in form for form in forms)


def test_p10_it_is_never_serialised() -> None:
    """P10: pickle of any protocol and JSON refuse it."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never serialised"):
            pickle.dumps(Secret(HIDDEN), protocol)
    with pytest.raises(TypeError):
        json.dumps({"secret": Secret(HIDDEN)})
    with pytest.raises(TypeError):
        vars(Secret(HIDDEN))


def test_copies_are_the_same_object() -> None:
    """Copying a record that holds a Secret neither fails nor multiplies it."""

    @dataclasses.dataclass
    class Holder:
        secret: Secret[str]

    holder = Holder(Secret(HIDDEN))
    assert copy.copy(holder.secret) is holder.secret
    assert dataclasses.asdict(holder)["secret"] is holder.secret
    assert HIDDEN not in repr(holder)


def test_equality_tells_nothing() -> None:
    """Two Secrets of one value are different."""
    assert Secret("a") != Secret("a")
    assert Secret("a") != "a"
    assert Secret(HIDDEN).reveal() == HIDDEN


def test_p10_tracebacks_with_locals_show_nothing() -> None:
    """P10: an exception rendered with its frames' locals has only the redacted form."""

    def fails(secret: Secret[str]) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError) as caught:
        fails(Secret(HIDDEN))
    rendered = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "secret = <secret>" in rendered


def test_p10_structlog_and_logging_show_nothing() -> None:
    """P10: as a value, nested, and in an exception's locals, in structlog's JSON and in stdlib logging."""
    out = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=True)),
            structlog.processors.JSONRenderer(),
        ],
    )
    secret = Secret(HIDDEN)
    log.info("paid", secret=secret, nested={"deep": [secret]})
    try:
        secret.__reduce_ex__(2)
    except TypeError:
        log.exception("failed")
    stream = logging.StreamHandler(out)
    stream.emit(logging.LogRecord("x", logging.INFO, "f", 1, "secret %s", (secret,), None))
    assert out.getvalue().count(REDACTED) >= 4
    assert out.getvalue().count(HIDDEN) == 0
