"""E-mail, by the operator's mail server."""

import smtplib
from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from thingscale.events.transports import Outcome, Result, in_short

NOT_CONFIGURED = "The operator has set no mail server (THINGSCALE_EMAIL_URL)."
SUBJECT = 200  # characters


def email_configured() -> bool:
    return bool(settings.EMAIL_HOST)


def send(connection: BaseEmailBackend, address: str, title: str, text: str, message_id: str) -> Outcome:
    if not email_configured():
        return Outcome(Result.FAILED, NOT_CONFIGURED)
    if "@" not in parseaddr(address)[1] or not address.isprintable():
        return Outcome(Result.FAILED, "This is no e-mail address.")
    headers = {"Auto-Submitted": "auto-generated", "X-Delivery-Id": message_id}
    message = EmailMessage(
        in_short(title)[:SUBJECT], text, None, [address], connection=connection, headers=headers
    )
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as refused:
        code, reason = next(iter(refused.recipients.values()), (0, b""))
        return _answered(code, reason)
    except smtplib.SMTPAuthenticationError as error:  # the operator's to repair
        return Outcome(Result.RETRY, in_short(f"The mail server refuses our password: {error.smtp_code}"))
    except smtplib.SMTPResponseException as error:
        return _answered(error.smtp_code, error.smtp_error)
    except OSError as error:  # SMTPException is one
        return Outcome(Result.RETRY, f"The mail server is away ({type(error).__name__}).")
    return Outcome(Result.SENT, "The mail server took it.")


def _answered(code: int, reason: bytes | str) -> Outcome:
    said = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
    return Outcome(Result.FAILED if code >= 500 else Result.RETRY, in_short(f"{code} {said}"))
