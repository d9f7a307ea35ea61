"""Background work on channels and datapoints."""

from thingscale.celery import Maintenance, app
from thingscale.streams import limit_warnings, retention, rollups
from thingscale.streams.exactly_once import commit_log, idempotent_requests, redeliveries


@app.task(name="streams.make_partitions", base=Maintenance)
def make_partitions() -> None:
    retention.make_coming_partitions()


@app.task(name="streams.drop_expired", base=Maintenance)
def drop_expired() -> None:
    retention.drop_expired()
    retention.drop_empty_partitions()
    redeliveries.delete_old()
    idempotent_requests.delete_old()
    commit_log.delete_old()


@app.task(name="streams.drop_oldest", base=Maintenance)
def drop_oldest() -> None:
    retention.drop_oldest()


@app.task(name="streams.look_at_limits", base=Maintenance)
def look_at_limits() -> None:
    limit_warnings.look()


@app.task(name="streams.mail_limit_warnings")
def mail_limit_warnings() -> None:
    limit_warnings.mail()


@app.task(name="streams.purge_deleted_channels", base=Maintenance)
def purge_deleted_channels() -> None:
    retention.purge_deleted_channels()


@app.task(name="streams.roll_up", base=Maintenance)
def roll_up() -> None:
    rollups.roll_up(seconds=50)


@app.task(name="streams.purge_deleted_tags", base=Maintenance)
def purge_deleted_tags() -> None:
    retention.purge_deleted_tags()
