"""A mail server that keeps what it gets."""

from email.message import Message
from typing import Any

from aiosmtpd.handlers import Message as MessageHandler


class MailServer(MessageHandler):
    """Takes all, or answers each recipient with `refusal`."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []
        self.refusal = ""

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"
