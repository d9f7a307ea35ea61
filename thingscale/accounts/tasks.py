"""Background work on accounts."""

from kombu.exceptions import OperationalError

from thingscale.accounts import actions, mails
from thingscale.celery import Upkeep, app


@app.task(name="accounts.clear_ended", base=Upkeep)
def clear_ended() -> None:
    actions.clear_ended()


@app.task(name="accounts.send_reset", autoretry_for=(OSError,), retry_backoff=15, max_retries=6)
def send_reset(email: str, base: str) -> None:
    mails.send_reset(email, base)


def ask_for_reset(email: str, base: str) -> bool:
    """False while the queue is away. Who asks learns nothing of the account: not even from how long it takes,
    as it would from sending."""
    try:
        send_reset.apply_async((email, base), retry=False)
    except (OperationalError, OSError):
        return False
    return True
