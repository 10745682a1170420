"""`make verify` itself: what it takes for a difference."""

import math

import pytest

from tests.verify import TOLERANCE, differences, merge

COMMITTED = {"mix": {"J": 60.0, "F": 70.0}, "test_n": {"S": 0.1}}


def test_figures_within_the_tolerance_agree():
    made = {"mix": {"J": 60.0 + TOLERANCE, "F": 70.0 - TOLERANCE}, "test_n": {"S": 0.1}, "new": 1}
    assert differences(COMMITTED, made) == []


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        ({"mix": {"J": 60.0, "F": 65.9}, "test_n": {"S": 0.1}}, "mix.F is 65.9, committed 70.0"),
        ({"mix": {"J": math.nan, "F": 70.0}, "test_n": {"S": 0.1}}, "mix.J is nan, committed 60.0"),
        ({"mix": {"J": 60.0, "F": 70.0}, "test_n": {"S": 0.15}}, "test_n.S is 0.15, committed 0.1"),
        ({"mix": {"J": 60.0}, "test_n": {"S": 0.1}}, "mix.F is missing"),
        ({"mix": {"J": 60.0, "F": 70.0}}, "test_n is missing"),
    ],
)
def test_what_is_further_off_or_missing_is_named(made, fault):
    assert differences(COMMITTED, made) == [fault]


def test_only_what_is_there_can_be_changed():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}}) == {
        "a": {"b": 4, "c": 2},
        "d": 3,
    }
    with pytest.raises(ValueError, match="'e'"):
        merge({"a": {"b": 1}}, {"a": {"e": 4}})
