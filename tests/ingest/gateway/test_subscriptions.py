"""Who gets a message, by the filters of an account."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gateway import subscriptions
from ingest.gateway.subscriptions import Match, SubscriptionTree
from ingest.mqtt.packets import Subscription, topic_matches, valid_topic_filter

Tree = SubscriptionTree[str]


def options(qos: int = 0, *, no_local: bool = False, as_published: bool = False) -> Subscription:
    return Subscription("TOKEN/whatever", qos, no_local, as_published, 0)


def subscribers(tree: Tree, topic: str) -> list[str]:
    return sorted(match.subscriber for match in tree.match(topic))


def in_turn(tree: Tree, topic: str) -> list[list[str]]:
    return [[match.subscriber for match in group] for group in tree.shared(topic)]


@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [
        ("a", ["a"], ["", "b", "a/", "/a", "a/b", "A"]),
        ("a/#", ["a", "a/", "a/b", "a/b/c", "a//"], ["", "b", "ab", "/a"]),
        ("#", ["", "a", "/", "a/b", "$SYS", "$SYS/x"], []),
        ("+", ["", "a", "$SYS"], ["/", "a/", "a/b"]),
        ("+/#", ["", "a", "a/b", "/", "$SYS/x"], []),
        ("+/+", ["/", "a/", "/a", "a/b"], ["", "a", "a/b/c", "//"]),
        ("a/+", ["a/", "a/b"], ["a", "a/b/c", "a/b/", "b/a"]),
        ("a/+/", ["a/b/", "a//"], ["a/b", "a/", "a/b/c"]),
        ("+/b/+/d", ["a/b/c/d", "/b//d"], ["a/b/c", "a/b/c/d/", "a/x/c/d"]),
        ("a/+/c/#", ["a/b/c", "a/b/c/d/e"], ["a/b", "a/b/d", "a/c"]),
        ("/", ["/"], ["", "a/", "/a", "//"]),
        ("//#", ["//", "//a", "/"], ["", "/a", "///a"][0:2]),
    ],
)
def test_a_filter_matches_as_mqtt_says(topic_filter: str, matching: list[str], others: list[str]) -> None:
    """Alone, where a wildcard is kept as one leaf, and among others, where it needs nodes."""
    for neighbours in ([], ["a/b/#", "a/+/x", "+/b/+/x", "a/+/c/x", "//x/#", "+/+/x/#"]):
        tree = Tree()
        for neighbour in neighbours:
            tree.subscribe("neighbour", neighbour, options())
        tree.subscribe("me", topic_filter, options())
        for topic in matching:
            assert "me" in subscribers(tree, topic), topic
        for topic in others:
            assert "me" not in subscribers(tree, topic), topic


def test_overlapping_filters_of_one_subscriber_are_one_delivery() -> None:
    tree = Tree()
    tree.subscribe("me", "a/b", options(1, no_local=True), identifier=5)
    tree.subscribe("me", "a/+", options(2, no_local=True))
    tree.subscribe("me", "#", options(0, no_local=True, as_published=True), identifier=7)
    tree.subscribe("you", "#", options(1), identifier=1)
    mine = [match for match in tree.match("a/b") if match.subscriber == "me"]
    assert [match._replace(identifiers=()) for match in mine] == [Match("me", 2, True, True, ())]
    assert sorted(mine[0].identifiers) == [5, 7]
    assert list(tree.match("x")) == [Match("me", 0, True, True, (7,)), Match("you", 1, False, False, (1,))]


def test_no_local_holds_only_if_all_matching_subscriptions_have_it() -> None:
    tree = Tree()
    tree.subscribe("me", "a", options(no_local=True))
    tree.subscribe("me", "+", options())
    assert [match.no_local for match in tree.match("a")] == [False]
    tree.unsubscribe("me", "+")
    assert [match.no_local for match in tree.match("a")] == [True]


def test_the_same_identifier_of_two_subscriptions_comes_twice() -> None:
    """Section 3.3.4: "multiple identical Subscription Identifiers"."""
    tree = Tree()
    tree.subscribe("me", "a", options(), identifier=3)
    tree.subscribe("me", "#", options(), identifier=3)
    assert [match.identifiers for match in tree.match("a")] == [(3, 3)]


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "a/#", "#"])
@pytest.mark.parametrize("beside", [[], ["you"]])
def test_a_repeated_subscription_is_not_new_and_has_the_new_options(
    topic_filter: str, beside: list[str]
) -> None:
    tree = Tree()
    for other in beside:
        tree.subscribe(other, topic_filter, options())
    assert tree.subscribe("me", topic_filter, options(1), identifier=1)
    tree.match("a/b")
    assert not tree.subscribe("me", topic_filter, options(1), identifier=1)
    assert not tree.subscribe("me", topic_filter, options(2, as_published=True))
    assert Match("me", 2, True, False, ()) in tree.match("a/b")
    assert len(tree) == 1 + len(beside)


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "+/b/#"])
@pytest.mark.parametrize("group", ["", "g"])
def test_unsubscribe_says_whether_there_was_something(topic_filter: str, group: str) -> None:
    tree = Tree()
    tree.subscribe("me", topic_filter, options(), group=group)
    assert not tree.unsubscribe("you", topic_filter, group)
    assert not tree.unsubscribe("me", "a/x", group)
    assert not tree.unsubscribe("me", topic_filter, "other")
    assert tree.unsubscribe("me", topic_filter, group)
    assert not tree.unsubscribe("me", topic_filter, group)
    assert (len(tree), tree.nodes, tree.count("me")) == (0, 0, 0)


def test_the_subscriptions_of_one_are_listed_as_they_were_made() -> None:
    tree = Tree()
    assert list(tree.filters("me")) == []
    tree.subscribe("me", "b/+", options(1, no_local=True), identifier=9)
    assert [one[:2] for one in tree.filters("me")] == [("", "b/+")]
    tree.subscribe("me", "x", options(2), group="g")
    tree.subscribe("me", "a", options(as_published=True))
    assert [tuple(one) for one in tree.filters("me")] == [
        ("", "b/+", Subscription("b/+", 1, True, False, 0), 9),
        ("g", "x", Subscription("x", 2, False, False, 0), 0),
        ("", "a", Subscription("a", 0, False, True, 0), 0),
    ]
    assert tree.count("me") == 3
    tree.remove("me")
    tree.remove("me")
    assert (len(tree), list(tree.filters("me")), tree.match("a"), tree.shared("x")) == (0, [], (), [])


def test_a_group_takes_turns() -> None:
    tree = Tree()
    for member in "abc":
        tree.subscribe(member, "x/+", options(), group="g")
    (group,) = tree.shared("x/y")
    assert (group.name, group.filter, len(group)) == ("g", "x/+", 3)
    chosen = []
    for _ in range(6):
        match = group.choose()
        assert match
        chosen.append(match.subscriber)
    assert chosen == list("abcabc")
    tree.subscribe("a", "x/+", options(2), group="g")  # keeps its turn, has the new options
    assert [match[:2] for match in group] == [("a", 2), ("b", 0), ("c", 0)]


def test_who_is_unable_is_passed_over_and_keeps_the_turn() -> None:
    tree = Tree()
    for member in "abc":
        tree.subscribe(member, "x", options(), group="g")
    (group,) = tree.shared("x")
    connected = {"b", "c"}
    first, second = group.choose(connected.__contains__), group.choose(connected.__contains__)
    assert first
    assert second
    assert (first.subscriber, second.subscriber) == ("b", "c")
    assert group.choose(lambda _: False) is None
    assert in_turn(tree, "x") == [["a", "b", "c"]]


def test_each_group_and_filter_is_a_shared_subscription_of_its_own() -> None:
    tree = Tree()
    tree.subscribe("a", "x", options(), group="g")
    tree.subscribe("a", "x", options(), group="h")
    tree.subscribe("b", "+", options(), group="g")
    tree.subscribe("a", "x", options())
    assert sorted(in_turn(tree, "x")) == [["a"], ["a"], ["b"]]
    assert subscribers(tree, "x") == ["a"]
    assert in_turn(tree, "y") == [["b"]]
    assert len(tree) == 4


def test_what_match_remembers_is_bounded_in_count_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_CACHED_TOPICS", 20)
    monkeypatch.setattr(subscriptions, "MAX_CACHED_BYTES", 40_000)
    tree = Tree()
    for index in range(100):
        tree.subscribe(f"s{index}", "#", options())
        tree.subscribe(f"s{index}", "+/+", options())
    for index in range(200):
        assert len(tree.match(f"a/{index}")) == 100
        assert len(tree.match(f"short{index}")) == 100
        assert len(tree.match("x" * index * 300)) == 100
        assert len(tree._cache) <= 20
        held = sum(200 + len(topic) + 8 * len(found) for topic, found in tree._cache.items())
        assert held <= tree._cached_bytes <= 40_000
    assert not any(topic.startswith("a/") for topic in tree._cache)  # 100 merged matches are too large


def test_an_exact_filter_forgets_its_own_topic_only() -> None:
    tree = Tree()
    tree.subscribe("all", "#", options())
    before = tree.match("a"), tree.match("b")
    tree.subscribe("me", "b", options())
    assert tree.match("a") is before[0]
    assert subscribers(tree, "b") == ["all", "me"]
    again = tree.match("a")
    tree.subscribe("all", "#", options())  # as it was
    assert tree.match("a") is again
    tree.subscribe("me", "+", options())
    assert subscribers(tree, "a") == ["all", "me"]


def test_a_topic_that_nobody_listens_to_is_not_remembered_where_that_saves_nothing() -> None:
    tree = Tree()
    tree.subscribe("me", "a", options())
    for index in range(10):
        assert not tree.match(f"json/{index}")
        assert subscribers(tree, "a") == ["me"]
    assert not tree._cache


def test_an_answer_stays_as_it_was_while_it_is_used() -> None:
    """A long fan-out is delivered in slices: the tree may change between them."""
    tree = Tree()
    for index in range(10):
        tree.subscribe(f"s{index}", "a", options())
    found = tree.match("a")
    for index in range(10):
        tree.remove(f"s{index}")
    assert len(found) == 10
    assert not tree.match("a")


def test_very_long_topics_and_filters_are_no_trouble() -> None:
    """No recursion, and no node for each level of a filter that is alone."""
    deep = "/".join("+" * 30_000)
    tree = Tree()
    tree.subscribe("me", deep, options())
    assert tree.nodes == 1
    assert subscribers(tree, "/" * 29_999) == ["me"]
    assert subscribers(tree, "/" * 30_000) == []
    tree.subscribe("you", f"{deep}/x", options())
    assert tree.nodes > 30_000  # what the caller has to bound
    assert subscribers(tree, "/" * 30_000 + "x") == ["you"]
    tree.remove("you")
    tree.remove("me")
    assert tree.nodes == 0


LEVELS = ["a", "b", "", "$x"]
topics = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4).map("/".join)
filters = (
    st.tuples(st.lists(st.sampled_from([*LEVELS, "+"]), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: parts[0] + parts[1])
    .filter(bool)
    .map("/".join)
)
SUBSCRIBERS = st.sampled_from("pqr")
OPTIONS = st.tuples(st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 3))
GROUPS = st.sampled_from(["", "", "g", "h"])
STEPS = st.one_of(
    st.tuples(st.just("subscribe"), SUBSCRIBERS, filters, GROUPS, OPTIONS),
    st.tuples(st.just("subscribe"), SUBSCRIBERS, filters, GROUPS, OPTIONS),
    st.tuples(st.just("unsubscribe"), SUBSCRIBERS, filters, GROUPS, st.none()),
    st.tuples(st.just("unsubscribe one"), st.integers(0, 99), st.none(), st.none(), st.none()),
    st.tuples(st.just("remove"), SUBSCRIBERS, st.none(), st.none(), st.none()),
    st.tuples(st.just("publish"), topics, st.none(), st.none(), st.none()),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40), st.lists(topics, min_size=1, max_size=5))
def test_the_tree_answers_as_comparing_each_filter_would(steps: list[Any], asked: list[str]) -> None:
    tree = Tree()
    model: dict[tuple[str, str, str], tuple[int, bool, bool, int]] = {}
    for step, one, topic_filter, group, chosen in steps:
        match step:
            case "subscribe":
                key = (one, topic_filter, group)
                qos, no_local, as_published, identifier = chosen
                subscription = options(qos, no_local=no_local, as_published=as_published)
                new = tree.subscribe(one, topic_filter, subscription, identifier, group)
                assert new == (key not in model)
                model[key] = chosen
            case "unsubscribe":
                there = model.pop((one, topic_filter, group), None)
                assert tree.unsubscribe(one, topic_filter, group) == (there is not None)
            case "unsubscribe one" if model:
                key = sorted(model)[one % len(model)]
                del model[key]
                assert tree.unsubscribe(*key)
            case "remove":
                tree.remove(one)
                model = {key: value for key, value in model.items() if key[0] != one}
            case "publish":
                compare(tree, model, one)
        for topic in asked:
            compare(tree, model, topic)
    assert len(tree) == len(model)
    for subscriber in "pqr":
        listed = {
            (one.filter, one.group): (
                one.subscription.qos,
                one.subscription.no_local,
                one.subscription.retain_as_published,
                one.identifier,
            )
            for one in tree.filters(subscriber)
        }
        assert listed == {key[1:]: value for key, value in model.items() if key[0] == subscriber}
        assert tree.count(subscriber) == len(listed)
        tree.remove(subscriber)
    assert (len(tree), tree.nodes) == (0, 0)
    assert not tree._index._exact


def compare(tree: Tree, model: dict[tuple[str, str, str], tuple[int, bool, bool, int]], topic: str) -> None:
    """`topic_matches` is asked with the token in front, as on the wire: there `$` in `a/$x` means nothing."""
    expected: dict[str, list[tuple[int, bool, bool, int]]] = {}
    groups: dict[tuple[str, str], set[str]] = {}
    for (subscriber, topic_filter, group), chosen in model.items():
        if topic_matches(f"T/{topic_filter}", f"T/{topic}"):
            if group:
                groups.setdefault((group, topic_filter), set()).add(subscriber)
            else:
                expected.setdefault(subscriber, []).append(chosen)
    found = tree.match(topic)
    assert len({match.subscriber for match in found}) == len(found)
    assert {
        (match.subscriber, match.qos, match.no_local, match.retain_as_published, *sorted(match.identifiers))
        for match in found
    } == {
        (
            subscriber,
            max(qos for qos, *_ in those),
            all(no_local for _, no_local, _, _ in those),
            any(as_published for _, _, as_published, _ in those),
            *sorted(identifier for *_, identifier in those if identifier),
        )
        for subscriber, those in expected.items()
    }
    shared = tree.shared(topic)
    assert {(group.name, group.filter): {one.subscriber for one in group} for group in shared} == groups
    assert len(shared) == len(groups)


@given(filters)
def test_the_filters_of_this_test_are_valid(topic_filter: str) -> None:
    assert valid_topic_filter(f"T/{topic_filter}")


@pytest.mark.parametrize("others", [(), ("\2/+/x/y", "\2/#")], ids=["a leaf", "nodes"])
def test_no_wildcard_stands_for_the_level_in_front_of_topics_without_a_token(others: tuple[str, ...]) -> None:
    """They are kept with it; the account's other topics do not mix with them."""
    filters = ["#", "+/#", "+", "+/+", "+/+/+", "+/a", "a", "a/#", "+/a/#"]
    topics = ["a", "a/b", "b/a", "b/a/c", "/a", "a/b/c"]
    for below in (False, True):
        for filter_ in filters:
            tree: SubscriptionTree[str] = SubscriptionTree()
            for other in others:
                tree.subscribe("other", other, Subscription(other, 1, False, False, 0))
            kept = filter_ if below else f"\2/{filter_}"
            tree.subscribe("me", kept, Subscription(kept, 1, False, False, 0))
            tree.subscribe("member", kept, Subscription(kept, 1, False, False, 0), 0, "group")
            for topic in topics:
                for name in (topic, f"\2/{topic}"):
                    expected = topic_matches(filter_, topic) and name.startswith("\2") is not below
                    assert ("me" in {each.subscriber for each in tree.match(name)}) is expected, (kept, name)
                    assert bool(tree.shared(name)) is expected, (kept, name)
