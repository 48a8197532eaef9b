"""Statements without what is in them."""

from __future__ import annotations

import pytest

from backline.operations.database.sessions import Knot, Session, tree
from backline.operations.database.text import normalised

SECRETS = ("s3cret", "it\\'s", "4711")


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        (
            "select * from t where a = 's3cret' and b = 4711.5",
            "select * from t where a = ? and b = ?",
        ),
        ("select 1 -- s3cret\n , 2 /* s3cret */", "select ? , ?"),
        ("select E'it\\'s s3cret', U&'s3cret', x'4711'", "select ?, ?, ?"),
        ("select 'it''s s3cret' as \"a 'name'\"", "select ? as \"a 'name'\""),
        ("do $body$ s3cret $$ s3cret $$ s3cret $body$", "do ?"),
        ("select $$s3cret$$ from t1 where c2 = $1", "select ? from t1 where c2 = $1"),
        ("select * from t where id in (4711, 2,  3)", "select * from t where id in (…)"),
        ("alter role x password 's3cret cut o", "alter role x password ?"),
        ("select $a$s3cret cut o", "select ?"),
        ("select 1 /* s3cret cut o", "select ?"),
        ("select 4711e5, .4711, 0x4711", "select ?, ?, ?"),
        ("fetch 10  from\n\tc", "fetch ? from c"),
    ],
)
def test_no_literal_is_left(statement: str, shown: str) -> None:
    assert normalised(statement) == shown
    assert not any(secret in normalised(statement) for secret in SECRETS)


def session(pid: int, *by: int) -> Session:
    return Session(
        *("db1", pid, "app", "music", "", None, "active", "client backend", None),
        *(1.0, 1.0, 1, False, False, "select 1"),
        by=by,
    )


def shape(knots: list[Knot]) -> list[tuple[int, int]]:
    return [(knot.depth, knot.session.pid if knot.session else 0) for knot in knots]


def test_who_holds_all_others_up_stands_on_top() -> None:
    waiting = [session(3, 2), session(2, 1), session(1), session(5, 1), session(4, 3, 2)]
    assert shape(tree(waiting)) == [(0, 1), (1, 2), (2, 3), (3, 4), (1, 5)]


def test_a_prepared_transaction_holds_up_as_well() -> None:
    assert shape(tree([session(2, 0), session(3, 2)])) == [(0, 0), (1, 2), (2, 3)]


def test_a_circle_is_shown_once_and_does_not_end_in_one() -> None:
    knots = tree([session(1, 2), session(2, 1), session(3, 1)])
    assert sorted(pid for _, pid in shape(knots)) == [1, 2, 3]


def test_a_blocker_that_ended_meanwhile_is_told() -> None:
    assert shape(tree([session(2, 99)])) == [(0, 0), (1, 2)]
