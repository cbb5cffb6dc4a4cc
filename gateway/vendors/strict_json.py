"""The strict reading of JSON, for vendors' modules: see gateway.core.strict_json."""

from gateway.core.strict_json import (
    MAX_DEPTH,
    MAX_NUMBER_CHARS,
    Fraction,
    JsonError,
    dump_json,
    map_strings,
    parse_json,
)

__all__ = ["MAX_DEPTH", "MAX_NUMBER_CHARS", "Fraction", "JsonError", "dump_json", "map_strings", "parse_json"]
