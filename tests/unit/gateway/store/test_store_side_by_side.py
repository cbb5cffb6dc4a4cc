"""Two sequences by ascending names are walked as one."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.side_by_side import side_by_side

NAMED = st.dictionaries(st.text("abß", max_size=2), st.integers(0, 9), max_size=6)


@given(NAMED, NAMED)
def test_each_name_comes_once_and_in_order_with_what_either_has(kept: dict[str, int], told: dict[str, int]) -> None:
    """Whatever the two have in common: nothing is left out, nothing comes twice, and what is missing is None."""
    walked = list(side_by_side(sorted(kept.items()), sorted(told.items())))
    assert walked == [(name, kept.get(name), told.get(name)) for name in sorted({*kept, *told})]
