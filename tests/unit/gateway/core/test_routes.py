"""Routes: which spelling of a path is which route, and which is none."""

import pytest

from gateway.core.routes import Route, Window, match_route

ROUTES = (
    Route("list", ("GET",), ("rentals",)),
    Route("one", ("GET",), ("rentals", "{rental_id}"), ref_parameter="rental_id"),
    Route("renew", ("POST",), ("rentals", "{rental_id}", "renew"), ref_parameter="rental_id"),
    Route("files", ("GET",), ("files", "{path*}")),
)


@pytest.mark.parametrize(
    ("method", "path", "name", "parameters"),
    [
        ("GET", "/rentals", "list", {}),
        ("GET", "/rentals/abc", "one", {"rental_id": "abc"}),
        ("GET", "/rentals/a%20b", "one", {"rental_id": "a b"}),
        ("POST", "/rentals/abc/renew", "renew", {"rental_id": "abc"}),
        ("GET", "/files/a/b/c", "files", {"path": "a/b/c"}),
        ("GET", "/files/", "files", {"path": ""}),
    ],
)
def test_a_declared_path_matches(method: str, path: str, name: str, parameters: dict[str, str]) -> None:
    """Segments are split first and decoded after."""
    match = match_route(ROUTES, method, path)
    assert match is not None
    assert (match.route.name, dict(match.parameters)) == (name, parameters)


@pytest.mark.parametrize(
    "path",
    [
        "rentals",
        "/rentals/",
        "/rentals//renew",
        "/Rentals",
        "/rentals/..",
        "/rentals/%2e%2e",
        "/rentals/a%2Fb",
        "/rentals/a%5Cb",
        "/rentals/a%00b",
        "/rentals/a%0d%0ab",
        "/rentals/a%252Fb",
        "/files/../rentals",
        "/files/%2e%2e/rentals",
        "/other",
    ],
)
def test_a_path_with_two_readings_matches_nothing(path: str) -> None:
    """What the vendor's router might see otherwise is no route of ours."""
    assert match_route(ROUTES, "GET", path) is None


def test_the_method_counts() -> None:
    """A path under another method is not the route."""
    assert match_route(ROUTES, "DELETE", "/rentals") is None


@pytest.mark.parametrize(("asked", "given"), [(1, 120), (120, 120), (300, 300), (900, 900), (10**9, 900)])
def test_a_window_stays_within_bounds(asked: int, given: int) -> None:
    """The vendor's wish is clamped (design 6)."""
    assert Window(120, 900).clamp(asked) == given


def test_a_match_names_its_resource() -> None:
    """Only routes about one thing have a ref."""
    one, many = match_route(ROUTES, "GET", "/rentals/abc"), match_route(ROUTES, "GET", "/rentals")
    assert one is not None
    assert many is not None
    assert (one.ref, many.ref) == ("abc", None)
