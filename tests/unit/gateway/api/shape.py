"""Holds a document against the part of JSON Schema that our own schemas use."""

import datetime as dt
import re
from typing import Any

_TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list, "null": type(None)}


def check(value: Any, schema: Any, at: str = "$") -> None:
    """Raise AssertionError naming the first place where the value is not what the schema says."""
    if "anyOf" in schema:
        failures = []
        for each in schema["anyOf"]:
            try:
                check(value, each, at)
            except AssertionError as error:
                failures.append(str(error))
            else:
                return
        raise AssertionError(failures)
    kind = _TYPES[schema["type"]]
    assert isinstance(value, kind), f"{at}: {value!r} is no {schema['type']}"
    assert kind is bool or not isinstance(value, bool), f"{at}: {value!r} is no {schema['type']}"
    assert value in schema.get("enum", [value]), f"{at}: {value!r}"
    assert "pattern" not in schema or re.search(schema["pattern"], value), f"{at}: {value!r}"
    if schema.get("format") == "date-time":
        assert dt.datetime.fromisoformat(value).utcoffset() == dt.timedelta(0), at
    if kind is list:
        for n, item in enumerate(value):
            check(item, schema["items"], f"{at}[{n}]")
    if kind is dict:
        members = schema.get("properties", {})
        missing = set(schema.get("required", ())) - value.keys()
        assert not missing, f"{at}: {missing} missing"
        assert schema.get("additionalProperties", True) or value.keys() <= members.keys(), f"{at}: {value.keys()}"
        for name in value.keys() & members.keys():
            check(value[name], members[name], f"{at}.{name}")


def followed(document: Any, schema: Any) -> Any:
    """Return a schema of an OpenAPI document with every reference replaced by what it leads to."""
    if isinstance(schema, list):
        return [followed(document, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return followed(document, found)
    return {name: followed(document, each) for name, each in schema.items()}
