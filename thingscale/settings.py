"""All settings. Each variable is explained in docs/configuration.md."""

import json
import os
from pathlib import Path

import redis

from thingscale.lib import env

BASE_DIR = Path(__file__).resolve().parent.parent
THINGSCALE_HOME = env.path("THINGSCALE_HOME", BASE_DIR / "var")


def _use_running_servers() -> None:
    """A `manage.py` command beside a running `manage.py up` finds its servers, unless told of others."""
    running = THINGSCALE_HOME / "servers.json"
    if os.access(running, os.R_OK):
        for name, url in json.loads(running.read_text()).items():
            if "MQTT" not in name:  # an earlier version had a broker of its own
                os.environ.setdefault(name, url)


_use_running_servers()
# Newest first (docs/decisions/0030-secrets.md). Without one no server starts.
SECRET_KEY, *SECRET_KEY_FALLBACKS = env.secret_keys(THINGSCALE_HOME / "secret_key") or [""]
DEBUG = env.flag("THINGSCALE_DEBUG")
ALLOWED_HOSTS = env.text("THINGSCALE_ALLOWED_HOSTS", "*").split(",")
CORS_ORIGINS = frozenset(filter(None, env.text("THINGSCALE_CORS_ORIGINS").replace(" ", "").split(",")))

INSTALLED_APPS = [
    "console.operator.apps.OperatorConfig",  # django.contrib.admin
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",  # its widgets' templates, for FORM_RENDERER
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "thingscale.apps.ThingscaleConfig",
    "thingscale.background",
    "thingscale.processes",
    "thingscale.accounts",
    "thingscale.devices",
    "thingscale.streams",
    "thingscale.provisioning",
    "thingscale.intakes",
    "thingscale.events",
    "thingscale.hosts",
    "thingscale.local",
    "thingscale.operations",
    "ingest",
    "api",
    "console",
]
MIDDLEWARE = [
    "thingscale.web.compression.Compression",
    "django.middleware.security.SecurityMiddleware",
    "console.middleware.Language",
    "console.middleware.ErrorsForMachines",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.middleware.LoginRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "console.middleware.ContentSecurityPolicy",
    "console.middleware.SignedIn",
    "console.deleted_objects.DeletedObjectAs404",
    "api.headers.ApiHeaders",
]
ROOT_URLCONF = "thingscale.urls"
APPEND_SLASH = False  # the REST contract takes both forms without a redirect
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.shell",
                "console.words.words",
            ],
            "builtins": ["django.templatetags.i18n", "console.templatetags.translate"],
        },
    }
]
FORM_RENDERER = "console.forms.renderer.Renderer"
WSGI_APPLICATION = "thingscale.wsgi.application"

DATABASES = {"default": env.database() | {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.text("REDIS_URL", f"unix://{THINGSCALE_HOME}/run/valkey.sock")
_VALKEY = {
    "LOCATION": [REDIS_URL],  # a list: a path may have a comma
    "KEY_PREFIX": "thingscale",
    "OPTIONS": {"socket_timeout": 0.25, "socket_connect_timeout": 0.25},
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"} | _VALKEY,
    "ratelimit": {"BACKEND": "thingscale.web.shared_counter.WindowCache"} | _VALKEY,
}
RATELIMIT_USE_CACHE = "ratelimit"
LIVE_VALKEY = {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "retry_on_error": [redis.ConnectionError],  # once: a connection may have died while it was idle
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL} | LIVE_VALKEY],
            "prefix": f"thingscale{env.database_of(REDIS_URL)}",  # publishing knows no databases
        },
    }
}

AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "thingscale.accounts.passwords.UnlikeTheAccount"},
]
LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "signin"
SESSION_ENGINE = "thingscale.accounts.sessions"
SESSION_COOKIE_AGE = 14 * 24 * 3600
PUBLIC_URL = env.text("THINGSCALE_PUBLIC_URL").rstrip("/")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
SECURE_HSTS_SECONDS = (
    env.integer("THINGSCALE_HSTS_SECONDS", 365 * 24 * 3600) if PUBLIC_URL.startswith("https://") else 0
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
SIGNUP = env.flag("THINGSCALE_SIGNUP", default=True)
SIGNUP_VERIFY = env.flag("THINGSCALE_SIGNUP_VERIFY", default=bool(env.text("THINGSCALE_EMAIL_URL")))
PASSWORD_RESET_TIMEOUT = 3600
OTP_TOTP_ISSUER = "ThingScale"
OTP_TOTP_THROTTLE_FACTOR = OTP_STATIC_THROTTLE_FACTOR = 0  # accounts.actions counts wrong codes, by network
_MAIL = env.mail("THINGSCALE_EMAIL_URL")
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if _MAIL.host else 'filebased'}.EmailBackend"
EMAIL_FILE_PATH = THINGSCALE_HOME / "mail"  # without a server, so that nothing is lost silently
EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _MAIL[:4]
EMAIL_USE_TLS, EMAIL_USE_SSL = _MAIL.tls == "starttls", _MAIL.tls == "smtps"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.sender("THINGSCALE_EMAIL_FROM", "ThingScale <thingscale@localhost>")
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ja", "日本語")]  # of the console; what machines read stays English
LOCALE_PATHS = [BASE_DIR / "thingscale" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
NODE_MODULES = BASE_DIR / "node_modules"
STATICFILES_DIRS = [
    BASE_DIR / "static",
    ("vendor/htmx", NODE_MODULES / "htmx.org" / "dist"),
    ("vendor/uplot", NODE_MODULES / "uplot" / "dist"),
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "thingscale.web.static_files.VersionedStorage"},
}

BIND = env.text("THINGSCALE_BIND", "127.0.0.1")
MQTT_PORT = env.integer("THINGSCALE_MQTT_PORT", 1883, 0, 65535)
MQTT_WS_PORT = env.integer("THINGSCALE_MQTT_WS_PORT", 8083, 0, 65535)
MQTT_TLS_PORT = env.integer("THINGSCALE_MQTT_TLS_PORT", 8883, 0, 65535)
MQTT_WSS_PORT = env.integer("THINGSCALE_MQTT_WSS_PORT", 8084, 0, 65535)
TLS_CERT = env.text("THINGSCALE_TLS_CERT")
TLS_KEY = env.text("THINGSCALE_TLS_KEY")
INGEST_MODE = env.text("THINGSCALE_INGEST", "gateway")
BROKER = env.broker("MQTT_URL") if INGEST_MODE == "broker" else env.NO_BROKER
BROKER5 = env.broker("MQTT5_URL", env.text("MQTT_URL")) if INGEST_MODE == "broker" else env.NO_BROKER
BROKER_CLIENT_ID = env.text("THINGSCALE_BROKER_CLIENT_ID", "thingscale-ingest-1")
BROKER_WINDOW = env.integer("THINGSCALE_BROKER_WINDOW", 10_000, 1, 65_535)
BROKER_AUTH_SECRET = env.url_secret("THINGSCALE_BROKER_AUTH_SECRET")
BROKER_OWN_CLIENT_IDS = env.flag("THINGSCALE_BROKER_OWN_CLIENT_IDS")
MAX_CONNECTIONS = env.integer("THINGSCALE_MAX_CONNECTIONS", 25_000, 1)
ACCOUNT_CONNECTIONS = env.integer("THINGSCALE_ACCOUNT_CONNECTIONS", 10_000)
SUBSCRIPTIONS = env.integer("THINGSCALE_SUBSCRIPTIONS", 100_000)
UNREAD_BYTES = env.integer("THINGSCALE_UNREAD_BYTES", 64 * 2**20, 2**20)
DURABLE_SESSIONS = env.integer("THINGSCALE_DURABLE_SESSIONS", 10_000)
DURABLE_SESSION_DAYS = env.integer("THINGSCALE_DURABLE_SESSION_DAYS", 30, 1, 36_500)
DURABLE_END_SECONDS = 60.0  # between two looks for those that are over
CONNECTING_PER_ADDRESS = env.integer("THINGSCALE_CONNECTING_PER_ADDRESS", 2_000)
FAILED_SIGN_INS = env.integer("THINGSCALE_FAILED_SIGN_INS", 1_000)
TRUSTED_PROXIES = env.text("FORWARDED_ALLOW_IPS", "127.0.0.1")  # as uvicorn reads it
CONNECT_SECONDS = env.integer("THINGSCALE_CONNECT_SECONDS", 10, 1)
QUEUE_MESSAGES = env.integer("THINGSCALE_QUEUE_MESSAGES", 50_000, 1)
QUEUE_BYTES = env.integer("THINGSCALE_QUEUE_BYTES", 64 * 2**20, 2**20)
EVENT_LATE_SECONDS = env.integer("THINGSCALE_EVENT_LATE_SECONDS", 900, 1)
INCIDENT_DAYS = env.integer("THINGSCALE_INCIDENT_DAYS", 365, 1, 36_500)
KEPT_DELIVERIES = env.integer("THINGSCALE_KEPT_DELIVERIES", 50_000, 1)
DEDUPE_SECONDS = env.integer("THINGSCALE_DEDUPE_SECONDS", 3600, 1)
SHARE_PORTS = env.flag("THINGSCALE_SHARE_PORTS")
PROXY_NETWORKS = env.networks("THINGSCALE_PROXY_NETWORKS")
HTTPS_PORT = env.integer("THINGSCALE_HTTPS_PORT", 8443, 0, 65535)
HTTP_CONNECTIONS = env.integer("THINGSCALE_HTTP_CONNECTIONS", 10_000, 1)
HTTP_CONNECTIONS_PER_ADDRESS = env.integer("THINGSCALE_HTTP_CONNECTIONS_PER_ADDRESS", 1_000, 1)
HTTP_HEAD_SECONDS = env.integer("THINGSCALE_HTTP_HEAD_SECONDS", 10, 1)
HTTP_KEEP_ALIVE_SECONDS = env.integer("THINGSCALE_HTTP_KEEP_ALIVE_SECONDS", 75, 1)
HTTP_ANSWER_SECONDS = env.integer("THINGSCALE_HTTP_ANSWER_SECONDS", 1800, 1)
HTTP_STORE_SECONDS = env.integer("THINGSCALE_HTTP_STORE_SECONDS", 5, 1)
DRAIN_SECONDS = env.integer("THINGSCALE_DRAIN_SECONDS", 10, 1)
HANDOVER_SECONDS = env.integer("THINGSCALE_HANDOVER_SECONDS", 5, 0, 3600)
SERVER_REFERENCE = env.servers("THINGSCALE_SERVER_REFERENCE")
ALLOW_ANONYMOUS = env.flag("THINGSCALE_ALLOW_ANONYMOUS")
TOKEN_OVERLAP_HOURS = env.integer("THINGSCALE_TOKEN_OVERLAP_HOURS", 24)
METRICS_BIND = env.text("THINGSCALE_METRICS_BIND", "127.0.0.1")
METRICS_PORT = env.integer("THINGSCALE_METRICS_PORT", 0, 0, 65535)
WEB_METRICS_PORT = env.integer("THINGSCALE_WEB_METRICS_PORT", 0, 0, 65535)
HTTP_RATE = env.integer("THINGSCALE_HTTP_RATE", 1)
INTAKE_RATE = env.integer("THINGSCALE_INTAKE_RATE", 20_000)
REST_RATE = env.integer("THINGSCALE_REST_RATE", 20, 1)
READS_AT_ONCE = env.integer("THINGSCALE_READS_AT_ONCE", 2, 1)
STREAMS_AT_ONCE = env.integer("THINGSCALE_STREAMS_AT_ONCE", 4, 1)
MAX_STORAGE = env.integer("THINGSCALE_MAX_STORAGE", 5_242_880_000, 0, 2**63 - 1)
MAX_DEVICES = env.integer("THINGSCALE_MAX_DEVICES", 10_000)
MAX_CHANNELS = env.integer("THINGSCALE_MAX_CHANNELS", 10_000)
MAX_TAGS = env.integer("THINGSCALE_MAX_TAGS", 10_000)
MAX_KEYS = env.integer("THINGSCALE_MAX_KEYS", 1_000, 0, 1_000)
MAX_EVENTS = env.integer("THINGSCALE_MAX_EVENTS", 1_000)
MAX_RULES = env.integer("THINGSCALE_MAX_RULES", 100)
MAX_HELD = env.integer("THINGSCALE_MAX_HELD", 100_000)
MAX_RETAINED = env.integer("THINGSCALE_MAX_RETAINED", 100_000)
MAX_QUEUED = env.integer("THINGSCALE_MAX_QUEUED", 2 * 2**30, 0, 2**63 - 1)
MAX_REJECTED = env.integer("THINGSCALE_MAX_REJECTED", 1_000, 1)
MAX_INTAKES = env.integer("THINGSCALE_MAX_INTAKES", 50)
WHEN_FULL = env.text("THINGSCALE_WHEN_FULL", "refuse")
NOTIFY_NETWORKS = env.networks("THINGSCALE_NOTIFY_NETWORKS")
MAX_DELIVERIES = env.integer("THINGSCALE_MAX_DELIVERIES", 100_000, 1)
READ_SECONDS = env.integer("THINGSCALE_READ_SECONDS", 30, 1, 86_400)
STREAM_MAX_ROWS = env.integer("THINGSCALE_STREAM_MAX_ROWS", 1_000_000, 1)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000  # a channel's page has four for each of 1000 labels

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.auth.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["api.throttling.AccountThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["api.parsers.AnyTypeJSONParser"],
    "EXCEPTION_HANDLER": "api.errors.handle",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNICODE_JSON": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ThingScale API",
    "DESCRIPTION": "Devices, channels, datapoints, events. Options travel in headers or as query parameters."
    " Devices send to the HTTP connector.",
    "VERSION": "2",
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "http://127.0.0.1:8000"}],  # of `make run`; what is served has its own address
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "max_retries": 1,
    "interval_start": 0,  # who asks for a task does not wait for a Valkey that is away
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "thingscale.background.schedule:SharedSchedule"
CELERY_BEAT_SCHEDULE = {
    task: {"task": task, "schedule": seconds, "options": {"expires": seconds}}  # the next one is as good
    for task, seconds in {
        "heartbeat": 60.0,
        "streams.activate_new_devices": 60.0,
        "streams.roll_up": 60.0,
        "streams.purge_deleted_channels": 600.0,
        "streams.purge_deleted_tags": 600.0,
        "streams.purge_closed_accounts": 600.0,
        "streams.store_left_held": 600.0,
        "streams.make_partitions": 3600.0,
        "streams.drop_expired": 3600.0,
        "streams.drop_oldest": 60.0,
        "streams.look_at_limits": 60.0,
        "streams.mail_limit_warnings": 60.0,
        "devices.forget_old_activity": 3600.0,
        "intakes.clean_up": 3600.0,
        "hosts.look": 20.0,
        "hosts.find": 30.0,
        "events.close_left_open": 60.0,
        "events.clean_up": 3600.0,
        "events.forget_deliveries": 600.0,
        "accounts.clear_ended": 86_400.0,
    }.items()
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "thingscale.lib.log_lines.LineFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.text("THINGSCALE_LOG_LEVEL", "INFO")},
    "loggers": {
        "gmqtt": {"level": 100},  # it would log payloads; thingscale/devices/mqtt_client.py says what matters
        **{name: {"level": 100} for name in ("apprise", "requests", "urllib3")},  # of receivers
        "channels_redis": {"level": 100},  # a traceback a second without Valkey; live_feed.py says it
    },
}
