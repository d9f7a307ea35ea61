"""Checks of Valkey, and of what goes through it: the schedule and the tasks."""

from contextlib import suppress

import redis
from django.core.cache import cache

from thingscale.background import heartbeat
from thingscale.lib import clock
from thingscale.lib.plurals import counted
from thingscale.operations.doctor.findings import Finding, Findings, problem, warning

BEAT_LATE_SECONDS = 180
TASKS = "celery"  # Celery's own name for its queue
MANY_TASKS = 1_000


def unreachable(error: redis.RedisError | ValueError) -> Finding:
    if isinstance(error, ValueError):
        return problem(
            "REDIS_URL is no address of a Valkey.",
            "It looks like redis://host:6379/0 or unix:///path/to/valkey.sock.",
        )
    if isinstance(error, redis.AuthenticationError):
        return problem("Valkey refuses the password.", "Correct the user and the password in REDIS_URL.")
    return problem(
        f"Valkey does not answer ({type(error).__name__}).",
        "Look whether it runs, and at REDIS_URL. Without it nothing is activated or mailed, pages show no"
        " live"
        " values, and rates are not limited.",
    )


def check_persistence(client: redis.Redis) -> Findings:
    """Tasks that wait must outlive it. Of a hosted one, nobody may read the configuration."""
    state = client.info("persistence")
    for name, ended in (
        ("aof_last_write_status", "write to its log"),
        ("rdb_last_bgsave_status", "save its data"),
    ):
        if state.get(name, "ok") != "ok":
            yield problem(f"Valkey could not {ended}.", "Look into its log, and whether its disk is full.")
    saves = None
    with suppress(redis.ResponseError):  # forbidden
        saves = client.config_get("save").get("save")
    if not state["aof_enabled"] and not saves:
        found = warning if saves is None else problem
        yield found(
            "Valkey keeps nothing when it ends: mails and activations that wait are lost then.",
            "Set appendonly yes in its configuration.",
        )


def check_eviction(client: redis.Redis) -> Findings:
    memory = client.info("memory")
    most, used, policy = memory["maxmemory"], memory["used_memory"], memory["maxmemory_policy"]
    if most and policy != "noeviction":
        yield problem(
            f"Valkey deletes what it likes when its memory is full (maxmemory-policy {policy}), also tasks"
            " that"
            " wait.",
            "Set maxmemory-policy noeviction. Give other programs a Valkey of their own.",
        )
    if most and used > 0.9 * most:
        yield problem(
            f"Valkey has used {used * 100 // most} % of its memory.",
            "Raise maxmemory, and look what fills it (`valkey-cli --bigkeys`).",
        )


def check_heartbeat(client: redis.Redis) -> Findings:
    """The schedule sends a task every minute, and a worker runs it."""
    seen = cache.get(heartbeat.KEY)
    if seen is None or (clock.now() - seen).total_seconds() > BEAT_LATE_SECONDS:
        since = f"since {seen:%F %H:%M} UTC" if seen else "yet"
        yield problem(
            f"No periodic task was run {since}: the worker, or its schedule, does not run.",
            "Start one Celery worker with --with-schedule: without it nothing is activated, rolled up or"
            " deleted.",
        )
    if (waiting := int(client.llen(TASKS))) > MANY_TASKS:
        yield warning(
            f"{counted(waiting, 'task')} wait for a worker.", "Start another worker, and look into its log."
        )
