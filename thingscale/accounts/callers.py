"""Finds the account of a token or a session, so that no account takes more than its share of the threads."""

from django.db import Error, close_old_connections, connection
from django.utils import timezone

from thingscale.accounts.models import Session, Token
from thingscale.web.callers import Credential


def identify(credential: Credential) -> int | None:
    """The account's primary key. None for an unknown credential, and while the database is away."""
    close_old_connections()
    try:
        if credential.kind == "token":
            token = Token.objects.find(Token.Kind.API, credential.text)
            return token.user_id if token else None
        if "\0" in credential.text:
            return None
        sessions = Session.objects.filter(session_key=credential.text, expire_date__gt=timezone.now())
        return sessions.values_list("user_id", flat=True).first()
    except Error:
        connection.close()
        return None
