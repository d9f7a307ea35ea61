"""Background work on accounts."""

from typing import Any

from kombu.exceptions import OperationalError

from thingscale.accounts import actions, emails
from thingscale.accounts.notices import Notice
from thingscale.celery import Maintenance, app


@app.task(name="accounts.clear_ended", base=Maintenance)
def clear_ended() -> None:
    actions.clear_ended()


@app.task(name="accounts.send_reset", autoretry_for=(OSError,), retry_backoff=15, max_retries=6)
def send_reset(email: str, base: str) -> None:
    emails.send_reset(email, base)


@app.task(name="accounts.send_notice", autoretry_for=(OSError,), retry_backoff=15, max_retries=6)
def send_notice(email: str, user_id: str, notice: str) -> None:
    emails.send_notice(email, user_id, Notice[notice])


@app.task(name="accounts.send_email_link", autoretry_for=(OSError,), retry_backoff=15, max_retries=6)
def send_email_link(user: int, email: str, base: str) -> None:
    emails.send_email_link(user, email, base)


@app.task(name="accounts.send_sign_up_link", autoretry_for=(OSError,), retry_backoff=15, max_retries=6)
def send_sign_up_link(email: str, base: str) -> None:
    emails.send_sign_up_link(email, base)


def enqueue(task: Any, *arguments: object) -> bool:
    """Puts a mail into the queue; False while the queue is away. Sending it here would tell, by the time it
    takes, whether there is an account."""
    try:
        task.apply_async(arguments, retry=False)
    except (OperationalError, OSError):
        return False
    return True
