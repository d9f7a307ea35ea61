"""Sessions in the database that know their user, so that a person can see and end them."""

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore

from thingscale.accounts.models import Session


class SessionStore(DatabaseStore):
    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        session = super().create_model_instance(data)
        assert isinstance(session, Session)
        session.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        session.ip_address = data.get("ip_address", "")
        session.user_agent = data.get("user_agent", "")[:200]
        if signed_in_at := data.get("signed_in_at"):  # Unix time: each save writes the whole row
            session.signed_in_at = datetime.fromtimestamp(signed_in_at, UTC)
        return session
