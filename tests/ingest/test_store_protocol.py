"""What goes between the gateway and the store comes out as it went in."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.message import DUPLICATE, STORED, Kind, Outcome, RawMessage, Reason, Status
from ingest.store_protocol import Frames, answer, columns, frame, messages, outcomes

SIGNED = st.integers(-(2**63), 2**63 - 1)
MESSAGES = st.builds(
    RawMessage,
    user=st.integers(0, 2**63 - 1),
    device_id=st.text(max_size=64),
    tag=st.none() | st.text(max_size=64),
    kind=st.sampled_from(Kind),
    payload=st.binary(max_size=100),
    received_at=SIGNED,
    dedupe=st.none() | SIGNED,
    repeated=st.booleans(),
    refused=st.none() | st.sampled_from(Reason),
    source=st.text(max_size=20),
    connected_at=st.floats(0, 1e9),
)
OUTCOMES = st.builds(
    Outcome, st.sampled_from(Status), st.none() | st.sampled_from(Reason), st.just("") | st.text(max_size=20)
)


@given(st.lists(MESSAGES, min_size=1, max_size=20))
def test_messages(sent: list[RawMessage]) -> None:
    (value,) = Frames().feed(frame((7, columns(sent))))
    number, fields = value
    received = messages(fields)
    assert (number, received) == (7, sent)
    assert [type(message.kind) for message in received] == [Kind] * len(sent)
    assert {type(message.refused) for message in received} <= {Reason, type(None)}


@given(st.lists(OUTCOMES, min_size=1, max_size=20))
def test_outcomes(told: list[Outcome]) -> None:
    (value,) = Frames().feed(frame(answer(7, told, [], None)))
    number, results, _, _ = value
    assert (number, outcomes(results, len(told))) == (7, told)


def test_stored_is_the_one_that_is_compared_by_identity() -> None:
    for told in ([STORED, STORED], [STORED, DUPLICATE]):
        assert outcomes(answer(1, told, [], None)[1], 2)[0] is STORED


@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(1, 50))
def test_frames_may_come_in_pieces(values: list[bytes], size: int) -> None:
    stream, frames = b"".join(map(frame, values)), Frames()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [value for piece in pieces for value in frames.feed(piece)] == values
