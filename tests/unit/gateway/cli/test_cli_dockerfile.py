"""The container's recipe, read: what it runs as, what it keeps, and what is not in it."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, arguments) of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def final_stage() -> list[tuple[str, str]]:
    """Return the instructions of the image that is shipped."""
    found = instructions()
    last = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def value(name: str) -> str:
    """Return the arguments of the only instruction of this name in the final stage."""
    (found,) = [rest for each, rest in final_stage() if each == name]
    return found


def test_it_is_built_in_stages_from_slim_images() -> None:
    """The compiler and pip stay behind: the final stage only copies what was built."""
    images = [rest for name, rest in instructions() if name == "FROM"]
    assert images == ["python:3.11-slim AS build", "python:3.11-slim"]
    copied = [rest for name, rest in final_stage() if name in {"COPY", "ADD"}]
    assert copied == ["--from=build /opt/gateway /opt/gateway"]
    assert not any(re.search(r"\b(pip|apt|apt-get|gcc|make)\b", rest) for name, rest in final_stage() if name == "RUN")


def test_it_runs_as_nobody_in_particular_and_keeps_data_on_a_volume() -> None:
    """A numeric user that is not root, so that an orchestrator can check it; one volume, owned by it."""
    user, _, group = value("USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    assert json.loads(value("VOLUME")) == ["/var/lib/gateway"]
    assert value("WORKDIR") == "/var/lib/gateway"
    order = [name for name, _ in final_stage()]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert all(order.index("USER") > place for place, name in enumerate(order) if name == "RUN")


def test_nothing_writes_to_the_root_file_system() -> None:
    """No byte code is written at run time, and output is not held back."""
    environment = value("ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert "PYTHONUNBUFFERED=1" in environment


def test_it_is_asked_for_its_health_without_a_shell() -> None:
    """The check is a list, names /healthz by a variable that is set, and gives up before the next one starts."""
    options, _, command = value("HEALTHCHECK").partition("CMD ")
    words = json.loads(command)
    assert words[:2] == ["python", "-c"]
    compile(words[2], "HEALTHCHECK", "exec")
    assert "GATEWAY_HEALTH_URL=http://127.0.0.1:8402/healthz" in value("ENV")
    assert "--interval=30s" in options
    assert "--timeout=5s" in options


def test_the_entry_point_is_the_installed_command() -> None:
    """`gateway serve`, started directly, so that signals reach it."""
    assert json.loads(value("ENTRYPOINT")) == ["gateway"]
    assert json.loads(value("CMD")) == ["serve"]
    assert "gateway" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("word", ["PASSPHRASE=", "PASSWORD", "SECRET", "TOKEN", "ARG ", "BASE_RPC", "ADD "])
def test_no_secret_is_built_in(word: str) -> None:
    """What is secret comes at run time; build arguments would stay in the image's history."""
    assert all(word not in f"{name} {rest}" for name, rest in instructions())


def test_every_copied_path_exists() -> None:
    """The build copies what the package is made of, by name, so nothing else can slip in."""
    copied = [
        path for name, rest in instructions() if name == "COPY" and "--from" not in rest for path in rest.split()[:-1]
    ]
    assert {"gateway", "wallets", "contracts", "pyproject.toml", "constraints.txt"} <= set(copied)
    assert [path for path in copied if not (ROOT / path).exists()] == []
