"""Contact points: a message to a service that Apprise knows."""

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings

from thingscale.events.guard import guarded
from thingscale.events.transports import Outcome, Result, by_http
from thingscale.events.transports.services import SERVICES, contact_url_problem, scheme_of

SECONDS = 10.0
WRONG = "The service's address can't be used: see how it is written for this service."
_WITH_FILES = frozenset({"NotifyDiscord", "NotifySlack", "NotifyWorkflows"})
_TYPES = {"critical": "failure", "warning": "warning", "info": "info"}


class ServiceMessage(NamedTuple):
    title: str
    text: str
    severity: str = ""


def send(url: str, message: ServiceMessage) -> Outcome:
    from thingscale.events.transports import limited_requests  # noqa: F401

    if problem := contact_url_problem(url):
        return Outcome(Result.FAILED, problem)
    plugin, asset = _load(scheme_of(url))
    failed: Exception | None = None
    accepted = False
    with guarded(SECONDS) as guard:
        try:
            accepted = _notify(plugin, asset, url, message)
        except TypeError as error:  # Apprise, of an address that lacks something
            return Outcome(Result.FAILED, WRONG) if guard.answer is None else by_http(guard, error)
        except Exception as error:
            failed = error
    if accepted:
        return Outcome(Result.SENT, guard.answer.text[:100] if guard.answer else "")
    outcome = by_http(guard, failed)
    if outcome.result is Result.SENT:  # 200, and in it that it failed
        return Outcome(Result.FAILED, outcome.answer)
    return outcome


@cache
def _load(scheme: str) -> tuple[Any, Any]:
    """The one plugin: Apprise itself would import all of them, which takes 20 MB."""
    from apprise import AppriseAsset

    service = SERVICES[scheme]
    module = import_module(f"apprise.plugins.{service.module}")
    # async_mode: in another thread
    asset = AppriseAsset(
        async_mode=False,
        http_redirects=False,
        storage_mode="memory",
        app_id="ThingScale",
        app_desc="ThingScale",
        app_url=settings.PUBLIC_URL,
        image_url_mask="",
        image_url_logo="",
    )
    return getattr(module, service.plugin), asset


def _notify(plugin: Any, asset: Any, url: str, message: ServiceMessage) -> bool:
    from apprise import Apprise, NotifyFormat, NotifyType

    read = plugin.parse_native_url(url) if url.lower().startswith("http") else plugin.parse_url(url)
    if not read:
        raise TypeError
    if plugin.__name__ in _WITH_FILES:
        read.pop("template", None)  # a file of this machine
    service = plugin(**read | {"asset": asset})
    service.request_rate_per_sec = 0  # of several receivers in one address: it would sleep in between
    service.throttle = lambda *_arguments, **_options: None
    apprise = Apprise(asset=asset)
    apprise.add(service)
    kind = NotifyType(_TYPES.get(message.severity, "info"))
    # What notify() does before it hands over to threads
    calls, _ = apprise._create_notify_calls(  # type: ignore[no-untyped-call]
        body=message.text, title=message.title, notify_type=kind, body_format=NotifyFormat.TEXT
    )
    return all(each.notify(**options) for each, options in calls)
