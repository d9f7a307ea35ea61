"""Checks of this machine and of the settings. They need no server."""

import os
import resource
import shutil
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core import mail
from django.core.checks import ERROR

from thingscale import checks
from thingscale.lib import env
from thingscale.lib.plurals import counted
from thingscale.local import home
from thingscale.operations.doctor.findings import Findings, problem, warning
from thingscale.processes import secret_key

MIB = 2**20
LITTLE_BYTES = 2**30  # free on a disk: a day of a small installation, and time to act
OWN_FILES = 500  # that a process has open besides its connections
CERTIFICATE_DAYS = 14  # before its end
MAIL_SECONDS = 5
SCRIPTS = ("vendor/htmx/htmx.min.js", "vendor/uplot/uPlot.iife.min.js", "console/icons.svg")
OWN_CHECKS = {"thingscale.W001"}  # system checks of which the doctor has one of its own


def check_settings() -> Findings:
    """The system checks, which every command prints."""
    for message in checks.check_settings(None):
        if message.id not in OWN_CHECKS:
            found = problem if message.level >= ERROR else warning
            yield found(message.msg, message.hint or "See docs/configuration.md.")
    if settings.DEBUG:
        yield problem(
            "THINGSCALE_DEBUG is on: whoever causes an error sees the settings and the source.",
            "Unset it. It is for developers on their own machine.",
        )


def check_secret_key() -> Findings:
    if env.KNOWN_TO_ALL in {
        env.text("THINGSCALE_SECRET_KEY"),
        *env.text("THINGSCALE_SECRET_KEYS").split(","),
    }:
        yield problem(
            "The secret key is the example that everybody knows: anybody could read the tokens.",
            "Set THINGSCALE_SECRET_KEY to a long random text, such as that of `openssl rand -base64 48`.",
        )
    elif secret_key.is_missing():
        yield problem(secret_key.MISSING, "Set it on all machines, and keep a copy apart from the backups.")


def check_home() -> Findings:
    folder: Path = settings.THINGSCALE_HOME
    if not folder.exists():
        yield warning(
            f"The home folder {folder} is not there yet.",
            "`manage.py up` makes it. Otherwise make it yourself, or set THINGSCALE_HOME to the one there"
            " is.",
        )
        return
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(4096))
    except OSError as error:
        yield problem(
            f"Nothing can be written to the home folder {folder}: {error.strerror}.",
            "Give it to the user that runs the platform, or set THINGSCALE_HOME to a folder of that user.",
        )
    key = folder / "secret_key"
    if key.exists() and key.stat().st_mode & 0o077:
        yield problem(
            f"Other users of this machine can read {key}, and with it the tokens.", f"Run `chmod 600 {key}`."
        )


def check_disk() -> Findings:
    """The disks of the home and of the private PostgreSQL. Of another PostgreSQL, only whether it can write
    is seen: database.check_writing()."""
    seen: set[int] = set()
    for folder in (settings.THINGSCALE_HOME, settings.THINGSCALE_HOME / "postgres"):
        if not folder.exists() or folder.stat().st_dev in seen:
            continue
        seen.add(folder.stat().st_dev)
        free = shutil.disk_usage(folder).free
        if free < LITTLE_BYTES:
            found = problem if free < home.NEEDED_BYTES else warning
            yield found(
                f"The disk of {folder.resolve()} has {free // MIB} MiB left.",
                "Make room on it, enlarge it, or delete old data (`manage.py delete_datapoints`, retention of"
                " channels). When it is full, nothing is acknowledged any more.",
            )
        inodes = os.statvfs(folder)
        if inodes.f_files and inodes.f_favail < 1000:
            yield problem(
                f"The disk of {folder.resolve()} has room for {counted(inodes.f_favail, 'more file')}.",
                "Delete small files on it: it has bytes left, but no inodes.",
            )


def check_open_files() -> Findings:
    """Of this user's shell or unit. The platform raises its own limit up to the hard one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = {
        "THINGSCALE_MAX_CONNECTIONS": settings.MAX_CONNECTIONS if settings.INGEST_MODE == "gateway" else 0,
        "THINGSCALE_HTTP_CONNECTIONS": settings.HTTP_CONNECTIONS,
    }
    variable, connections = max(wanted.items(), key=lambda item: item[1])
    if most != resource.RLIM_INFINITY and most < connections + OWN_FILES:
        found = problem if most < 4096 else warning
        yield found(
            f"A process may have {most:,} files open, and {variable} allows {connections:,} connections.",
            f"Raise the limit to {connections + OWN_FILES} (LimitNOFILE= of a unit, `ulimits` of a container,"
            f" nofile in /etc/security/limits.conf), or set {variable} lower.",
        )


def check_static_files() -> Findings:
    missing = [name for name in SCRIPTS if not finders.find(name)]
    if missing:
        yield problem(
            f"The console's {missing[0]} is missing"
            + (f", and {counted(len(missing) - 1, 'other file')}." if missing[1:] else "."),
            "Run `make node_modules` in the project (or `npm ci --omit=dev`), or take a complete package.",
        )


def check_mail() -> Findings:
    if not settings.EMAIL_HOST:
        yield warning(
            f"No mail server is set: mails are files in {settings.EMAIL_FILE_PATH}, and reach nobody.",
            "Set THINGSCALE_EMAIL_URL, such as smtp://user:password@host:587?tls=starttls.",
        )
        return
    try:
        with mail.get_connection(
            "django.core.mail.backends.smtp.EmailBackend", timeout=MAIL_SECONDS, fail_silently=False
        ):
            pass
    except OSError as error:  # those of smtplib are OSErrors, too
        yield problem(
            f"The mail server {settings.EMAIL_HOST} port {settings.EMAIL_PORT} can't be used:"
            f" {type(error).__name__}.",
            "Look at host, port, user, password and tls in THINGSCALE_EMAIL_URL, and at firewalls.",
        )


def check_certificate() -> Findings:
    from cryptography import x509

    if not settings.TLS_CERT or not settings.TLS_KEY:
        return  # one without the other is said by the system checks
    for path in (settings.TLS_CERT, settings.TLS_KEY):
        try:
            Path(path).read_bytes()
        except OSError as error:
            yield problem(
                f"{path}, which TLS needs, can't be read: {error.strerror}.",
                "Let the user that runs the platform read it, or correct THINGSCALE_TLS_CERT or _KEY.",
            )
            return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.TLS_CERT, settings.TLS_KEY)
        found = x509.load_pem_x509_certificates(Path(settings.TLS_CERT).read_bytes())[0]
    except (ssl.SSLError, ValueError, IndexError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        yield problem(
            f"{settings.TLS_CERT} and {settings.TLS_KEY} are no certificate and key that go together"
            f" ({reason}).",
            "Put the certificate in front of its chain in one PEM file, and its own key, without a password,"
            " in the other.",
        )
        return
    first, last = found.not_valid_before_utc, found.not_valid_after_utc
    left = last - datetime.now(UTC)
    renew = "Renew it: the platform uses the new files within seconds, without a restart."
    if left < timedelta():
        yield problem(f"The certificate {settings.TLS_CERT} has expired on {last:%F}.", renew)
    elif left < timedelta(days=CERTIFICATE_DAYS):
        yield warning(f"The certificate {settings.TLS_CERT} expires on {last:%F}.", renew)
    if first > datetime.now(UTC):
        yield problem(
            f"The certificate {settings.TLS_CERT} is valid from {first:%F %H:%M} UTC only.",
            "Set this machine's clock, or wait.",
        )


def check_addresses() -> Findings:
    public = settings.PUBLIC_URL
    open_to_all = settings.BIND not in {"127.0.0.1", "localhost", "::1"}
    if not public:
        if open_to_all:
            yield warning(
                "THINGSCALE_PUBLIC_URL is not set: mails have no links for people on other machines.",
                "Set it to the address that browsers use, such as https://iot.example.com.",
            )
        return
    parts = urlsplit(public)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
        yield problem(
            f"THINGSCALE_PUBLIC_URL is {public!r}, which is no address of a console.",
            "It is a scheme and a host, with a port if it is unusual: https://iot.example.com.",
        )
        return
    allowed = settings.ALLOWED_HOSTS
    host = parts.hostname
    if not any(
        name in {"*", host} or (name.startswith(".") and f".{host}".endswith(name)) for name in allowed
    ):
        yield problem(
            f"Browsers come to {host}, and THINGSCALE_ALLOWED_HOSTS ({','.join(allowed)}) refuses them.",
            f"Add {host} to THINGSCALE_ALLOWED_HOSTS.",
        )
    if parts.scheme == "http" and open_to_all:
        yield warning(
            "Browsers use the console without TLS: passwords can be read on their way.",
            "Set THINGSCALE_TLS_CERT and THINGSCALE_TLS_KEY, or put a proxy with TLS in front, and let"
            " THINGSCALE_PUBLIC_URL begin with https.",
        )
