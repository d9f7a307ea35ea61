from ingest import point_rate
from ingest.point_rate import PointRate


def test_no_limit() -> None:
    limit = PointRate(0)
    limit.take(1, 1, None, 10**9, 0.0)
    assert limit.wait(1, 1, None, 0.0) == 0.0


def test_ten_seconds_worth_may_come_at_once_and_then_it_is_the_rate() -> None:
    limit = PointRate(1000)
    limit.take(1, 1, None, 7500, 100.0)
    assert limit.wait(1, 1, None, 100.0) == 0.0
    limit.take(1, 1, None, 750, 100.0)
    assert limit.wait(1, 1, None, 100.0) == 1.0
    assert limit.wait(1, 1, None, 101.0) == 0.0


def test_one_intake_leaves_room_for_the_others_and_accounts_do_not_meet() -> None:
    limit = PointRate(1000)
    limit.take(1, 1, None, 9000, 100.0)
    assert limit.wait(1, 1, None, 100.0) == 2.0
    assert limit.wait(1, 2, None, 100.0) == 0.0
    limit.take(1, 2, None, 1500, 100.0)
    assert limit.wait(1, 2, None, 100.0) == 0.5
    assert limit.wait(2, 1, None, 100.0) == 0.0


def test_an_intakes_own_rate_is_within_the_accounts() -> None:
    for rate, seconds in ((10, 5.0), (10**6, 0.0)):
        limit = PointRate(1000)
        limit.take(1, 1, rate, 150, 100.0)
        assert limit.wait(1, 1, rate, 100.0) == seconds
    alone = PointRate(0)
    alone.take(1, 1, 10, 110, 100.0)
    assert alone.wait(1, 1, 10, 100.0) == 1.0


def test_what_has_to_wait_is_not_counted() -> None:
    limit = PointRate(1000)
    assert limit.take(1, 1, None, 20_000, 100.0) == 0.0
    for _ in range(3):
        assert limit.take(1, 1, None, 20_000, 100.0) > 0
    assert limit.take(1, 1, None, 1, 120.0) == 0.0


def test_what_was_counted_too_much_is_given_back() -> None:
    limit = PointRate(1000)
    limit.take(1, 1, None, 7500 + 2000, 100.0)
    assert limit.wait(1, 1, None, 100.0) > 0
    limit.give_back(1, 1, None, 2000, 101.0)
    assert limit.wait(1, 1, None, 101.0) == 0.0


def test_what_is_remembered_is_bounded() -> None:
    limit = PointRate(1000)
    for account in range(2 * point_rate.MAX_KNOWN):
        limit.take(account, 1, None, 1, account / 100)
    assert len(limit._due) <= point_rate.MAX_KNOWN + 2
