"""Histograms: what a batch adds at once is what its messages would add one by one."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ingest.message import DUPLICATE, FAILED, STORED, Outcome, Reason, Status
from ingest.metrics import SIZES, TIMES, Histogram, Metrics
from ingest.metrics_server import MetricsServer
from ingest.service import Ingest
from ingest.writer import MAX_BATCH

NOW = 1_700_000_000_000_000
AGES = st.integers(0, 2 * TIMES[-1]) | st.sampled_from(TIMES)


@given(st.lists(AGES, max_size=50))
def test_ages_fall_into_the_buckets_of_their_own(ages: list[int]) -> None:
    together, single = Histogram(TIMES), Histogram(TIMES)
    together.observe_ages([NOW - age for age in ages], NOW)
    for age in ages:
        single.observe(age)
    assert (together.counts, together.sum) == (single.counts, single.sum)


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    histogram = Histogram(TIMES)
    histogram.observe_ages([NOW, NOW - 2], NOW - 1_000_000)
    assert (histogram.counts[0], histogram.sum) == (2, 2)


def test_the_greatest_batch_has_a_bucket() -> None:
    assert SIZES[-1] == MAX_BATCH


def test_the_store_s_figures_arrive_whole() -> None:
    """But those that the gateway counts by itself."""
    rejected = Outcome(Status.REJECTED, Reason.UNSTORABLE)
    sent, learned = Metrics(), Metrics()
    sent.batch([STORED, rejected, DUPLICATE, FAILED, Outcome(Status.HELD, Reason.NO_MAPPED_CH)], 0.003)
    sent.batch([STORED], 0.2)
    learned.acknowledged.observe(1)
    learned.learn(sent.figures())
    assert learned.figures() == sent.figures()
    assert learned.acknowledged.sum == 1
    assert learned.reasons == dict.fromkeys(Reason, 0) | {Reason.UNSTORABLE: 1, Reason.NO_MAPPED_CH: 1}


def test_what_was_sent_again_is_no_second_reason() -> None:
    metrics = Metrics()
    metrics.batch([Outcome(Status.DUPLICATE, Reason.NO_MAPPED_CH)], 0)
    assert not metrics.reasons


def test_prometheus_reads_buckets_that_hold_the_smaller_ones() -> None:
    ingest = Ingest()
    ingest.writer.metrics.acknowledged.observe_ages([NOW - 1_000, NOW - 1_001, NOW - 61_000_000], NOW)
    page = MetricsServer(0, ingest, protocol="http").answer("/metrics")[2].decode()
    (family,) = (
        family
        for family in text_string_to_metric_families(page)
        if family.name == "thingscale_acknowledgement_seconds"
    )
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    bucket = "thingscale_acknowledgement_seconds_bucket"
    assert found[bucket, "0.001"] == 1
    assert found[bucket, "0.0025"] == found[bucket, "60.0"] == 2
    assert found[bucket, "+Inf"] == found["thingscale_acknowledgement_seconds_count", None] == 3
    assert {sample.labels["protocol"] for sample in family.samples} == {"http"}
