"""Style that guards a promise: the rings, banned calls, marks left open, and what must be documented."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRODUCT = ("contracts", "wallets", "gateway", "gateway_client", "gateway_mcp")

# Each ring and what it may import of ours: inward only (design 5).
RINGS: dict[str, tuple[str, ...]] = {
    "contracts": ("contracts",),
    "wallets": ("contracts", "wallets"),
    "gateway.core": ("contracts", "wallets.secret", "gateway.core"),
    "gateway.ports": ("contracts", "wallets.secret", "gateway.core", "gateway.http.port"),
    "gateway.http": ("contracts", "gateway.core", "gateway.http"),
    "gateway.rails": ("contracts", "wallets.secret", "gateway.core", "gateway.paid_ports", "gateway.rails"),
    "gateway.account_ports": ("contracts", "wallets.secret", "gateway.core", "gateway.http.port"),
    "gateway.server_ports": ("contracts", "wallets.secret", "gateway.core"),
    "gateway.paid_ports": ("contracts", "wallets.secret", "gateway.core", "gateway.ports"),
    "gateway.chains": ("contracts", "gateway.core", "gateway.ports", "gateway.paid_ports", "gateway.chains"),
    "gateway.store": ("contracts", "gateway.core", "gateway.ports", "gateway.store"),
    "gateway.vendors": (
        "contracts",
        "wallets",
        "gateway.core",
        "gateway.ports",
        "gateway.account_ports",
        "gateway.server_ports",
        "gateway.http.port",
        "gateway.vendors",
    ),
    "gateway.flow": (
        "contracts",
        "wallets",
        "gateway.core",
        "gateway.ports",
        "gateway.account_ports",
        "gateway.server_ports",
        "gateway.paid_ports",
        "gateway.rails",
        "gateway.http.port",
        "gateway.http.egress",
        "gateway.http.headers",
        "gateway.flow",
    ),
    "gateway.facilitator": (
        "contracts",
        "wallets",
        "gateway.core",
        "gateway.ports",
        "gateway.paid_ports",
        "gateway.rails",
        "gateway.http.port",
        "gateway.facilitator",
    ),
    "gateway.jobs": ("gateway.core", "gateway.flow", "gateway.ports", "gateway.store.core", "gateway.jobs"),
    "sandbox": ("sandbox", "gateway_client"),
    "gateway_client": ("gateway_client",),
    "gateway_mcp": ("gateway_client", "gateway_mcp"),
}

# What may be caught whole, and where.
CATCH_ALL = {"gateway/jobs/loops.py"}


def _modules(*tops: str) -> list[Path]:
    return sorted(p for top in tops for p in (ROOT / top).rglob("*.py") if "node_modules" not in p.parts)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in {*PRODUCT, "sandbox", "tests"}}


def _within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == top or name.startswith(top + ".") for top in allowed)


def test_imports_point_inward_only() -> None:
    """A module imports from its own ring and the rings inside it, never outward."""
    wrong = []
    for path in _modules(*PRODUCT, "sandbox"):
        name = _name(path)
        ring = max((r for r in RINGS if _within(name, (r,))), key=len, default=None)
        if ring is None:
            continue
        wrong += [f"{name} imports {other}" for other in _imports(path) if not _within(other, RINGS[ring])]
    assert wrong == []


def test_the_core_is_pure() -> None:
    """gateway.core and contracts neither wait nor look at clocks, files, sockets or randomness."""
    banned = {"asyncio", "time", "datetime", "random", "secrets", "os", "socket", "sqlite3", "aiohttp", "pathlib"}
    wrong = []
    for path in _modules("contracts", "gateway/core"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await):
                wrong.append(f"{_name(path)}:{node.lineno} awaits")
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            allowed = {"datetime"} if path.name == "times.py" else set()  # it formats, and asks no clock
            wrong += [f"{_name(path)} imports {n}" for n in names if n.split(".")[0] in banned - allowed]
    assert wrong == []


def test_nothing_catches_everything() -> None:
    """`except Exception` hides bugs; it stands only where a loop or the middleware must outlive them."""
    wrong = []
    for path in _modules(*PRODUCT):
        relative = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name | type(None)):
                name = node.type.id if node.type is not None else "bare"
                reraises = any(isinstance(n, ast.Raise) for n in ast.walk(node))
                if name in {"Exception", "BaseException", "bare"} and relative not in CATCH_ALL and not reraises:
                    wrong.append(f"{relative}:{node.lineno}")
    assert [w for w in wrong if not w.startswith("gateway/api/")] == []


def test_no_import_hides_in_a_function() -> None:
    """An import inside a function dodges a cycle: then the arrow points the wrong way."""
    wrong = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for path in _modules(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert wrong == []


def test_nothing_is_left_open() -> None:
    """No mark that says that work is missing, no skipped test."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|mark\.skip|mark\.xfail|pytest\.skip")
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in _modules(*PRODUCT, "sandbox", "tests")
        if path != Path(__file__)
        for match in marks.finditer(path.read_text())
    ]
    assert wrong == []


def test_files_of_tests_have_names_of_their_own() -> None:
    """Pytest imports each by its bare name: two of one name in two folders end the whole run, and neither folder's own."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_functions_stay_readable() -> None:
    """A function over eighty lines has two ideas."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.name} has {node.end_lineno - node.lineno} lines"
        for path in _modules(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno > 80
    ]
    assert wrong == []


@pytest.mark.parametrize("path", _modules(*PRODUCT, "sandbox"), ids=_name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    """Every module opens with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text()))
