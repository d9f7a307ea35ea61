"""Writes of accounts, tokens, sessions and second factors."""

import secrets
from base64 import b32encode
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from thingscale.accounts import encryption, limits
from thingscale.accounts.models import (
    CLOSED_DOMAIN,
    Account,
    Actor,
    Authenticator,
    AuthenticatorSecret,
    Session,
    Token,
    User,
    WrongCode,
)
from thingscale.accounts.notices import Notice, tell
from thingscale.accounts.passwords import normalised
from thingscale.lib import clock, tokens
from thingscale.lib.errors import ContractError
from thingscale.lib.plurals import counted
from thingscale.processes import change_notifications

RECOVERY_CODES = 10
WRONG_CODES_A_DAY = {WrongCode.Kind.APP: 50, WrongCode.Kind.RECOVERY: 1000}  # of an account
WRONG_CODE = gettext_lazy("This code is not right, or has been used. Type the one shown now.")
ENDED_TOKENS_RETAINED = timedelta(days=30)  # so that the operator can see what became of one


@transaction.atomic
def create_account(
    email: str,
    password: str,
    locale: str = "UTC",
    staff: bool = False,
    kind: str = limits.Kind.THINGSCALE,
) -> User:
    """Makes an account with its actor and both tokens.

    Raises ValidationError for a taken or malformed e-mail or a weak password."""
    user = User(email=User.objects.normalize_email(email), email1=email, locale=locale, kind=kind)
    user.is_staff = user.is_superuser = staff
    user.set_defaults(kind)
    check_new_password(user, password)
    user.set_password(password)
    user.full_clean()
    user.save()
    for of_token in Token.Kind:
        _add_token(user, of_token)
    return user


def check_new_password(user: User, password: str) -> None:
    """Raises ValidationError of the field `password` for a password that is weak or like the account's
    names."""
    try:
        validate_password(normalised(password), user)
    except ValidationError as error:
        raise ValidationError({"password": error.messages}) from None


def update_account(account: Account, changes: dict[str, Any]) -> None:
    User.objects.filter(pk=account.pk).update(**changes)


@transaction.atomic
def change_email(user: User, email: str) -> None:
    """Changes the e-mail to sign in with. Raises ValidationError for one that is taken or malformed."""
    if User.objects.select_for_update().get(pk=user.pk).closed_at:
        raise ValidationError(_("This account is closed."))
    old = user.email
    check_email(user, email)
    user.save(update_fields=["email"])
    tell(user, Notice.EMAIL_CHANGED, old)


def check_email(user: User, email: str) -> None:
    """Sets the e-mail without saving it. Raises ValidationError for one that is taken or malformed."""
    user.email = User.objects.normalize_email(email)
    user.full_clean()


@transaction.atomic
def change_account(user: User, changes: dict[str, Any]) -> None:
    """The operator's changes: any field but the password, and rights too."""
    rest = dict(changes)
    active, staff = rest.pop("is_active", None), rest.pop("is_staff", None)
    if staff is not None:
        rest |= {"is_staff": staff, "is_superuser": staff}
    if "kind" in rest and "rest_rate" not in rest:
        rest["rest_rate"] = limits.defaults(rest["kind"])["rest_rate"]
    if "email" in rest:
        rest["email"] = User.objects.normalize_email(rest["email"])
        if old := User.objects.filter(pk=user.pk).exclude(email=rest["email"]).first():
            tell(old, Notice.EMAIL_CHANGED)
    if rest:
        update_account(user, rest)
    if limits.NAMES & rest.keys():
        change_notifications.announce("limits", user.pk)
    if "own_topics" in rest:
        change_notifications.announce("tokens", user.pk)
    if active is not None:
        set_active(user, active)


@transaction.atomic
def choose_when_full(account: Account, when_full: str) -> None:
    update_account(account, {"when_full": when_full})
    change_notifications.announce("limits", account.pk)


@transaction.atomic
def choose_own_topics(account: Account, own_topics: bool) -> None:
    """Whether its signed-in MQTT clients have topics without a token, from now on."""
    update_account(account, {"own_topics": own_topics})
    change_notifications.announce("tokens", account.pk)  # what its clients may do has changed


@transaction.atomic
def reset_limits(account: Account) -> None:
    """Sets the limits of a new account."""
    update_account(account, limits.defaults(account.kind))
    change_notifications.announce("limits", account.pk)


def locked(account: Account) -> User:
    """Reads and locks the account. Until COMMIT nobody else counts what it has, to add to it."""
    return User.objects.select_for_update(no_key=True).get(pk=account.pk)


@transaction.atomic
def change_password(user: User, password: str, keep: str | None = None) -> None:
    """Ends every session of the user, but the one with the key `keep`. Raises ValidationError."""
    check_new_password(user, password)
    user.set_password(password)
    user.save(update_fields=["password"])
    end_sessions(user, keep)
    tell(user, Notice.PASSWORD_CHANGED)


def end_sessions(actor: Actor, keep: str | None = None) -> int:
    """Signs the actor out of all browsers, but for the session with the key `keep`; returns of how many."""
    return Session.objects.filter(user=actor.pk).exclude(session_key=keep or "").delete()[0]


def end_session(session: Session) -> None:
    session.delete()


@transaction.atomic
def set_active(user: User, active: bool) -> None:
    """REST and the connectors refuse an inactive account's tokens at once, and its sessions end."""
    user.is_active = active
    user.save(update_fields=["is_active"])
    if not active:
        end_sessions(user)
    change_notifications.announce("tokens", user.pk)


@transaction.atomic
def close_account(user: User) -> None:
    """Closes it for ever: nobody can sign in, nothing says whose it was, and the e-mail is free again. A task
    purges the data."""
    User.objects.select_for_update().get(pk=user.pk)  # so that no token is being made meanwhile
    Token.objects.filter(user=user).delete()
    _forget_second_factor(user)
    tell(user, Notice.CLOSED)
    user.email = f"closed-{secrets.token_hex(16)}@{CLOSED_DOMAIN}"  # nobody can have taken it
    user.email1 = user.email2 = user.organization = user.user_alias = ""
    user.is_staff = user.is_superuser = False
    user.closed_at = timezone.now()
    user.set_unusable_password()
    user.save()
    set_active(user, False)


def clear_ended() -> None:
    """Deletes sessions, tokens and counts of wrong codes that have ended."""
    now = timezone.now()
    Session.objects.filter(expire_date__lt=now).delete()
    Token.objects.filter(expires_at__lt=now - ENDED_TOKENS_RETAINED).delete()
    WrongCode.objects.filter(at__lt=now - timedelta(days=1)).delete()
    AuthenticatorSecret.objects.exclude(device__in=TOTPDevice.objects.all()).delete()


# Tokens


@transaction.atomic
def rotate_token(account: Account, kind: str, overlap: timedelta | None = None) -> Token:
    """Makes a new token. The old one stays valid for the overlap, so that devices can be moved one by one."""
    if overlap is None:
        overlap = timedelta(hours=settings.TOKEN_OVERLAP_HOURS)
    user = User.objects.select_for_update().get(pk=account.pk)
    if user.closed_at:
        raise ContractError("ACCOUNT_CLOSED", _("This account is closed."))
    Token.objects.filter(user=user, kind=kind, expires_at=None).update(expires_at=clock.now() + overlap)
    token = _add_token(user, kind)
    tell(user, Notice.API_TOKEN_ROTATED if kind == Token.Kind.API else Notice.DEVICE_TOKEN_ROTATED)
    change_notifications.announce("tokens", user.pk)
    return token


@transaction.atomic
def revoke_rotated_tokens(account: Account, kind: str) -> int:
    """Ends the overlap now; returns how many tokens ended."""
    count: int = Token.objects.rotated(account, kind).order_by().update(expires_at=clock.now())
    change_notifications.announce("tokens", account.pk)
    return count


def _add_token(user: User, kind: str) -> Token:
    plain = tokens.new()
    token: Token = Token.objects.create(
        user=user,
        kind=kind,
        digest=tokens.digest(plain),
        ciphertext=encryption.encrypt(plain, encryption.Purpose.TOKEN),
    )
    return token


# The second factor: an authenticator app, and recovery codes for when it is lost


@transaction.atomic
def begin_second_factor(actor: Actor) -> Authenticator:
    """Makes a new authenticator, which waits for its first code."""
    User.objects.select_for_update().get(pk=actor.pk)
    Authenticator.objects.filter(user_id=actor.pk, confirmed=False).delete()
    device: Authenticator = Authenticator.objects.create(
        user_id=actor.pk, name="authenticator", confirmed=False
    )
    _encrypt_secret(device, secrets.token_bytes(20).hex())
    return device


def _encrypt_secret(device: TOTPDevice, secret: str) -> None:
    """Keeps the secret encrypted, and gives django-otp a random key in its place. An older version of this
    software that still runs then asks for a code and takes none, and lets nobody in."""
    ciphertext = encryption.encrypt(secret, encryption.Purpose.AUTHENTICATOR)
    AuthenticatorSecret.objects.create(device_id=device.pk, ciphertext=ciphertext)
    device.key = secrets.token_bytes(20).hex()
    device.save(update_fields=["key"])


def confirm_second_factor(actor: Actor, code: str) -> list[str]:
    """Turns it on and returns the recovery codes. Raises ContractError for a code that is not the app's.
    Wrong ones are not counted: the page shows the secret itself."""
    with transaction.atomic():
        waiting = Authenticator.objects.select_for_update().filter(user_id=actor.pk, confirmed=False)
        device = waiting.first()
        if device is None or not device.verify_token(code):
            raise ContractError("WRONG_CODE", str(WRONG_CODE))
        Authenticator.objects.filter(user_id=actor.pk, confirmed=True).delete()
        waiting.update(confirmed=True)
        tell(actor, Notice.TWO_FACTOR_ON)
        return _make_recovery_codes(actor)


@transaction.atomic
def make_recovery_codes(actor: Actor) -> list[str]:
    """Replaces the recovery codes. Only hashes are kept."""
    tell(actor, Notice.RECOVERY_CODES)
    return _make_recovery_codes(actor)


def _make_recovery_codes(actor: Actor) -> list[str]:
    StaticDevice.objects.filter(user_id=actor.pk).delete()
    device = StaticDevice.objects.create(user_id=actor.pk, name="recovery codes")
    codes = [b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=_hashed(code)) for code in codes)
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]


def take_code(actor: Actor, code: str, network: str, known_browser: bool) -> None:
    """Uses up a code of the authenticator, or a recovery code. Raises ContractError for a wrong one.

    Who has found the password and tries codes must not keep the owner out. So wrong codes count against the
    network that they come from, and browsers that were signed in before are counted apart from all others. A
    recovery code has 80 bits, so nobody guesses one, and wrong codes of the app don't stop it.
    """
    typed = code.replace(" ", "").replace("-", "").lower()
    kind = WrongCode.Kind.APP if typed.isdecimal() and len(typed) == 6 else WrongCode.Kind.RECOVERY
    with transaction.atomic():  # an exception in here would undo the count of wrong codes
        User.objects.select_for_update().get(pk=actor.pk)  # one code at a time
        seconds = _seconds_to_wait(actor, kind, network, known_browser)
        right = False
        if not seconds and kind is WrongCode.Kind.APP:
            app = Authenticator.objects.filter(user_id=actor.pk, confirmed=True).first()
            right = app is not None and app.verify_token(typed)
        elif not seconds:
            codes = StaticDevice.objects.filter(user_id=actor.pk).first()
            right = codes is not None and codes.verify_token(_hashed(typed))
        if not seconds and not right:
            WrongCode.objects.create(
                user_id=actor.pk, kind=kind, network=network, known_browser=known_browser
            )
    if seconds:
        minutes = -(-seconds // 60)
        raise ContractError(
            "WAIT",
            _(
                "There were too many wrong codes. Wait %(minutes)s, use a browser that was"
                " signed in before, or type a recovery code."
            )
            % {"minutes": counted(minutes, "minute")},
        )
    if not right:
        raise ContractError("WRONG_CODE", str(WRONG_CODE))


def _seconds_to_wait(actor: Actor, kind: WrongCode.Kind, network: str, known_browser: bool) -> int:
    """Until the next code may be tried; 0 if one may be tried now."""
    wrong = WrongCode.objects.filter(user_id=actor.pk, kind=kind)
    limits = [
        (wrong.filter(network=network, known_browser=known_browser), 10, timedelta(minutes=5)),
        (wrong.filter(known_browser=known_browser), WRONG_CODES_A_DAY[kind], timedelta(days=1)),
    ]
    now = timezone.now()
    waits = [0]
    for codes, most, time in limits:
        recent = codes.filter(at__gt=now - time).order_by("-at").values_list("at", flat=True)[:most]
        if len(recent) == most:
            waits.append(int((recent[most - 1] + time - now).total_seconds()) + 1)
    return max(waits)


@transaction.atomic
def end_second_factor(actor: Actor) -> None:
    if Authenticator.objects.filter(user_id=actor.pk, confirmed=True).exists():
        tell(actor, Notice.TWO_FACTOR_OFF)
    _forget_second_factor(actor)


def _hashed(code: str) -> str:
    """The hash has 64 bits, as many as the column takes."""
    return tokens.digest(code).hex()[:16]


def _forget_second_factor(actor: Actor) -> None:
    Authenticator.objects.filter(user_id=actor.pk).delete()
    StaticDevice.objects.filter(user_id=actor.pk).delete()


# Another secret key


class Reencrypted(NamedTuple):
    renewed: int
    unreadable: int  # of a key that is not in the list


def reencrypt() -> Reencrypted:
    """Encrypts everything again with the newest secret key, also what earlier versions kept in clear. May be
    stopped and repeated at any time, while the platform runs."""
    renewed = unreadable = 0
    for model, column, purpose in encryption.COLUMNS:
        rows = model._default_manager.exclude(**{column: None}).order_by("pk")
        for pk, kept in rows.values_list("pk", column).iterator():
            ciphertext = bytes(kept)
            if encryption.is_of_newest_key(ciphertext, purpose):
                continue
            try:
                text = encryption.decrypt(ciphertext, purpose)
            except encryption.Undecryptable:
                unreadable += 1
                continue
            renewed += model._default_manager.filter(**{"pk": pk, column: ciphertext}).update(
                **{column: encryption.encrypt(text, purpose)}
            )
    for pk in list(TOTPDevice.objects.filter(encrypted=None).values_list("pk", flat=True)):
        with transaction.atomic():
            device = TOTPDevice.objects.select_for_update().filter(pk=pk).first()
            if device and not AuthenticatorSecret.objects.filter(device=device).exists():
                _encrypt_secret(device, device.key)
                renewed += 1
    return Reencrypted(renewed, unreadable)
