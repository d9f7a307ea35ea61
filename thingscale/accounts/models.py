"""Accounts and their tokens."""

import hashlib
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Upper
from django.utils import timezone
from django.utils.encoding import punycode
from django.utils.translation import gettext as _
from django_otp.plugins.otp_totp.models import TOTPDevice

from thingscale.accounts import encryption
from thingscale.accounts.limits import Kind, Limits
from thingscale.accounts.passwords import normalised, spellings
from thingscale.accounts.querysets import SessionManager, TokenQuerySet, UserManager
from thingscale.lib import clock
from thingscale.lib.ids import UserPk


def validate_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValidationError(_("Give an IANA time zone such as Europe/Berlin.")) from None


CLOSED_DOMAIN = "account.invalid"  # of closed accounts' e-mails; `.invalid` is nobody's for ever (RFC 2606)


def validate_email_domain(email: str) -> None:
    """Keeps everybody out of the domain of closed accounts, in each of its spellings."""
    try:
        domain = punycode(email.rpartition("@")[2]).lower()
    except UnicodeError:
        return  # no e-mail, which another validator says
    if domain == CLOSED_DOMAIN or domain.endswith(f".{CLOSED_DOMAIN}"):
        raise ValidationError(
            _("Nobody has an e-mail at %(closed_domain)s: give one that reaches you.")
            % {"closed_domain": CLOSED_DOMAIN}
        )


class Account(Limits):
    """What owns: devices, channels, events, tokens, and the limits of all that."""

    id: UserPk
    kind = models.CharField(
        max_length=10,
        choices=Kind,
        default=Kind.THINGSCALE,
        db_default=Kind.THINGSCALE,
        help_text="what it is mostly for, and so which words the console has for it",
    )
    email1 = models.EmailField(blank=True, validators=[validate_email_domain])
    email2 = models.EmailField(blank=True, validators=[validate_email_domain])
    organization = models.CharField(max_length=200, blank=True)
    rest_rate = models.PositiveIntegerField(default=20, help_text="REST requests a second")
    own_topics = models.BooleanField(
        default=False, db_default=False, help_text="MQTT topics without a token, for signed-in clients"
    )
    closed_at = models.DateTimeField(null=True, editable=False)  # its data waits to be purged
    # Limits of which much is used, and how much was when last measured: {"tags": 9800}. It is here, and in no
    # table of its own, so that no page costs a query more for it.
    near_limits = models.JSONField(default=dict, db_default={}, editable=False)

    has_hosts = models.BooleanField(default=False, db_default=False, editable=False)  # for the menu, likewise

    class Meta:
        abstract = True

    @property
    def user_id(self) -> str:
        return f"U{self.pk:06d}"


class Actor(AbstractBaseUser, PermissionsMixin):
    """Who does something: signs in with an e-mail and a password, in a time zone and a language."""

    id: UserPk
    email = models.EmailField(unique=True, validators=[validate_email_domain])
    locale = models.CharField(max_length=64, default="UTC", validators=[validate_zone])
    language = models.CharField(max_length=8, blank=True, default="", db_default="")  # "" as the browser asks
    user_alias = models.CharField(max_length=200, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True

    def set_password(self, raw_password: str | None) -> None:
        super().set_password(None if raw_password is None else normalised(raw_password))
        if raw_password and self._state.adding:
            # Django does this for an e-mail that no account has: it takes as long as a wrong password.
            for spelling in spellings(raw_password)[1:]:
                make_password(spelling)

    def check_password(self, raw_password: str | None) -> bool:
        check = super().check_password
        return any(check(spelling) for spelling in spellings(raw_password or ""))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.locale)

    def __str__(self) -> str:
        return f"U{self.pk:06d}"


class User(Account, Actor):
    """An account with its one actor, in one row. Code that needs one of them asks for that one by its type,
    so that an account can get more actors one day."""

    USERNAME_FIELD = "email"
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Upper("email"),
                name="one_account_an_email",
                violation_error_message="An account has this e-mail already.",
            )
        ]


class Token(models.Model):
    """A user's current token of a kind has no end; a rotated one ends after the overlap."""

    class Kind(models.TextChoices):
        API = "api"
        DEVICE = "device"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    kind = models.CharField(max_length=6, choices=Kind)
    digest = models.BinaryField(max_length=32, unique=True)
    ciphertext = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)

    objects: ClassVar[Any] = TokenQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind"], condition=models.Q(expires_at=None), name="one_current_token"
            )
        ]

    @property
    def ended(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()

    @property
    def plain(self) -> str:
        return encryption.decrypt(bytes(self.ciphertext), encryption.Purpose.TOKEN)


class Authenticator(TOTPDevice):  # type: ignore[misc]
    """The app on a person's phone. What django-otp keeps as its `key`, in clear, is nothing but a random
    number once there is a row of AuthenticatorSecret: devices of earlier versions have none until
    `manage.py reencrypt`."""

    class Meta:
        proxy = True

    @property
    def bin_key(self) -> bytes:
        kept = AuthenticatorSecret.objects.filter(device=self).first()
        if kept is None:
            return bytes.fromhex(self.key)
        return bytes.fromhex(encryption.decrypt(bytes(kept.ciphertext), encryption.Purpose.AUTHENTICATOR))


class AuthenticatorSecret(models.Model):
    """In hexadecimal, encrypted. There is no constraint in the database: a process of an earlier version
    deletes devices, and knows nothing of this."""

    device = models.OneToOneField(
        TOTPDevice,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="encrypted",
        db_constraint=False,
    )
    ciphertext = models.BinaryField()


class WrongCode(models.Model):
    """One that was typed as the second factor, for a day: `actions.take_code` counts them."""

    class Kind(models.TextChoices):
        APP = "app"
        RECOVERY = "recovery"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="wrong_codes", db_constraint=False)
    kind = models.CharField(max_length=8, choices=Kind)
    network = models.CharField(max_length=45)
    known_browser = models.BooleanField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["user", "at"], name="accounts_wrong_codes")]


class LimitWarning(models.Model):
    """That much of a limit is used, and what the account was told of it by mail. There is no constraint in
    the database: a process of an earlier version deletes accounts, and knows nothing of this."""

    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="limit_warnings", db_constraint=False
    )
    limit = models.CharField(max_length=20)  # as in limits.WORDS
    level = models.PositiveSmallIntegerField()  # percent that were reached, and not clearly left since
    mailed = models.PositiveSmallIntegerField(default=0)  # level that a mail went out for; 0 for none
    tries = models.PositiveSmallIntegerField(default=0)  # to send the mail that is due
    next_try_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "limit"], name="one_warning_a_limit"),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=models.Q(level__gt=models.F("mailed")),
                name="limit_warnings_to_mail",
            )
        ]


class Session(AbstractBaseSession):
    """A browser signed in to the console; `sessions.py` writes it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="console_sessions")
    ip_address = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)
    signed_in_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[SessionManager] = SessionManager()

    @property
    def name(self) -> str:
        """To tell sessions apart on a page: the key itself is a secret."""
        return hashlib.sha256(self.session_key.encode()).hexdigest()[:16]

    @classmethod
    def get_session_store_class(cls) -> Any:
        from thingscale.accounts.sessions import SessionStore

        return SessionStore


encryption.COLUMNS += [
    encryption.Column(Token, "ciphertext", encryption.Purpose.TOKEN),
    encryption.Column(AuthenticatorSecret, "ciphertext", encryption.Purpose.AUTHENTICATOR),
]
