"""Ranges as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.errors import UsageError
from edgebench.plan import ranges

small = st.integers(0, 500)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", (4,)),
        ("1..4", (1, 2, 3, 4)),
        ("1..16+5", (1, 6, 11, 16)),
        ("1..15+5", (1, 6, 11)),
        ("1,2,4", (1, 2, 4)),
        ("8, 1..3", (8, 1, 2, 3)),
        ("1..3,2..5", (1, 2, 3, 4, 5)),
        ("7..7", (7,)),
        ("0,all", (0, "all")),
    ],
)
def test_forms(text: str, values: tuple[object, ...]) -> None:
    assert ranges.parse(text, words=("all", "auto")) == values


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("8..1", "is descending", "Did you mean 1..8?"),
        ("8..1+2", "is descending", "Did you mean 1..8+2?"),
        ("1..100000", "more than 1000", "Did you mean 1..100000+6667?"),
        ("1..999999999999999999", "more than 1000", "Did you mean 1..9"),
        ("1..600,1000..1600", "more than 1000", "Did you mean"),
        ("1..8+0", "must not be 0", "Did you mean 1..8?"),
        ("1-8", "not a range", "Did you mean 1..8?"),
        ("1...8", "not a range", "Did you mean 1..8?"),
        ("al", "not a range", "Did you mean all?"),
        ("", "not a range", "Write 4"),
        ("1,,2", "''", "Write 4"),
        ("-3", "not a range", "Write 4"),
        ("1.5", "not a range", "Did you mean 1..5?"),
        ("٣", "not a range", "Write 4"),
        ("$(reboot)", "not a range", "all, auto"),
    ],
)
def test_mistakes_name_what_would_be_right(text: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ranges.parse(text, words=("all", "auto"))
    assert says in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_least_value() -> None:
    with pytest.raises(UsageError, match="0 is below 1"):
        ranges.parse("0..4", minimum=1)


@given(small, small, st.integers(1, 50))
def test_a_range_is_what_counting_gives(first: int, length: int, step: int) -> None:
    last = first + length
    assert ranges.parse(f"{first}..{last}+{step}") == tuple(range(first, last + 1, step))


@given(st.lists(small, min_size=1, max_size=50))
def test_a_list_keeps_its_order_and_each_value_once(values: list[int]) -> None:
    assert ranges.parse(",".join(map(str, values))) == tuple(dict.fromkeys(values))


@given(st.text(max_size=30))
def test_any_text_gives_values_or_a_clear_error(text: str) -> None:
    try:
        values = ranges.parse(text)
    except UsageError as error:
        assert error.hint
    else:
        assert 0 < len(values) <= ranges.LIMIT
        assert len(set(values)) == len(values)


@given(small, small, st.integers(1, 50))
def test_the_near_fix_is_itself_a_range(first: int, length: int, step: int) -> None:
    text = f"{first + length + 1}..{first}+{step}"
    with pytest.raises(UsageError) as caught:
        ranges.parse(text)
    near = caught.value.hint.removeprefix("Did you mean ").removesuffix("?")
    assert ranges.parse(near)
