"""Logging: one JSON line an event on standard error, or readable ones on a terminal.

Must not know what is logged.  Theory: secrets are a type whose text is redacted, so a log cannot leak what was never a
plain string; the format is chosen once, at start.
"""

import json
import logging
import sys

import structlog

from gateway.config import LogConfig, LogFormat

_ENCODE = json.JSONEncoder(default=repr).encode


def _serialize(event: object, **_: object) -> str:
    return _ENCODE(event)


def configure_logging(config: LogConfig) -> None:
    """Route every log line, ours and the libraries', to standard error in the configured form."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_serialize)
        if config.format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    level = logging.getLevelName(config.level.value.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak through `logging`; at their lower levels they print requests, which hold tokens.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='{"event":"%(name)s","level":"%(levelname)s"}')
