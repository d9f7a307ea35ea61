"""The profile: the account's limits and tokens, the actor's name and e-mail, and closing the account."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache

from console import known_browser, sign_in_limits
from console.forms.account import add_errors
from console.forms.profile import CloseForm, EmailForm, ProfileForm, RotateForm, WhenFullForm
from console.request import ConsoleRequest
from console.views.account import mail_link
from thingscale.accounts import actions, links, notices, second_factor, tasks
from thingscale.accounts.limits import WhenFull
from thingscale.accounts.models import Account, Session, Token, User
from thingscale.devices.presence import connected
from thingscale.streams.limit_warnings import update_near_limits
from thingscale.streams.usage import limit_use, used_storage

SECTION = {"section": "profile"}
NAMES = {"api": gettext_lazy("API token"), "device": gettext_lazy("Device token")}
WHEN_FULL_CHOSEN = {
    WhenFull.REFUSE: gettext_lazy(
        "When the storage is full, new data is refused. Nothing is deleted for it any more."
    ),
    WhenFull.DROP_OLDEST: gettext_lazy(
        "When the storage is full, the oldest datapoints are deleted from now on."
    ),
}
NAMES_IN_SENTENCES = {"api": gettext_lazy("API token"), "device": gettext_lazy("device token")}
WHO_USES = {"api": gettext_lazy("REST requests"), "device": gettext_lazy("HTTP and MQTT messages of devices")}


@never_cache
def profile(request: ConsoleRequest) -> HttpResponse:
    account, actor = request.account, request.actor
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=actor.pk))
    if form.is_valid():
        actions.update_account(account, form.cleaned_data)
        messages.success(request, _("Saved."))
        return redirect("profile")
    context = {
        "form": form,
        "tokens": [
            {
                "kind": kind,
                "name": NAMES[kind],
                "users": WHO_USES[kind],
                "plain": Token.objects.current(account, kind).plain,
                "rotated": list(Token.objects.rotated(account, kind)),
            }
            for kind in NAMES
        ],
        "limits": _limits(account),
        "choosable": True,
        "two_factor": second_factor.is_on(actor),
        "sessions": Session.objects.for_actor(actor).count(),
    }
    return render(request, "console/profile/profile.html", SECTION | context)


def _limits(account: Account) -> dict[str, Any]:
    """What is used, and of how much."""
    measured = limit_use([account])
    used = measured[account.id]
    update_near_limits([account], measured)  # the page is where people look after they have made room
    return {
        "storage": used_storage(account),
        "use": used,
        "devices": used["devices"].used,
        "channels": used["channels"].used,
    }


@never_cache
def when_full(request: ConsoleRequest) -> HttpResponse:
    account = request.account
    now = account.when_full
    form = WhenFullForm(request.POST or None, now=now, initial={"when_full": now})
    if form.is_valid():
        chosen = WhenFull(form.cleaned_data["when_full"])
        actions.choose_when_full(account, chosen)
        messages.success(request, WHEN_FULL_CHOSEN[chosen])
        return redirect(f"{reverse('profile')}#limits")
    context = SECTION | {"form": form, "storage": used_storage(account), "most": account.max_storage}
    return render(request, "console/profile/when_full.html", context)


@never_cache
@sign_in_limits.limit_passwords
def email(request: ConsoleRequest) -> HttpResponse:
    actor = request.actor
    form = EmailForm(request.POST or None, actor=actor, initial={"email": actor.email})
    if form.is_valid():
        new = form.cleaned_data["email"]
        try:
            if not settings.EMAIL_HOST:
                return _changed_email(request, new)
            actions.check_email(User.objects.get(pk=actor.pk), new)
        except ValidationError as error:
            add_errors(form, error, "email")
        else:
            if problem := mail_link(request, tasks.send_email_link, actor.pk, new):
                form.add_error(None, problem)
            else:
                notices.tell(actor, notices.Notice.EMAIL_ASKED)
                messages.success(
                    request,
                    _(
                        "A link is on its way to %(new)s: it changes your e-mail. Until you have opened it,"
                        " you sign in as before."
                    )
                    % {"new": new},
                )
                return redirect("profile")
    context = SECTION | {"form": form, "mail": settings.EMAIL_HOST}
    return render(request, "console/profile/email.html", context)


@never_cache
def confirm_email(request: ConsoleRequest, link: str) -> HttpResponse:
    """Opens the mailed link. It asks once more, since programs that look at mails open links too."""
    new = links.read_email_change(link, request.actor)
    if new is None:
        messages.info(request, _("This link has ended, or is of another account: ask for another one."))
        return redirect("profile-email")
    if request.method == "POST":
        try:
            return _changed_email(request, new)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return redirect("profile-email")
    texts = {
        "title": _("Change e-mail"),
        "question": _("You sign in with %(new)s from now on, and no longer with %(email)s.")
        % {"new": new, "email": request.actor.email},
        "action": _("Change e-mail"),
    }
    return render(request, "console/confirm.html", SECTION | texts | {"back": reverse("profile")})


def _changed_email(request: ConsoleRequest, email: str) -> HttpResponse:
    user = User.objects.get(pk=request.actor.pk)
    actions.change_email(user, email)
    messages.success(request, _("You sign in with %(email)s from now on.") % {"email": email})
    return known_browser.remember(redirect("profile"), user)


def rotate(request: ConsoleRequest, kind: str) -> HttpResponse:
    name = _name(kind)
    leaked = "leaked" in request.GET
    form = RotateForm(request.POST or None, initial={"overlap": "0"} if leaked else None)
    if form.is_valid():
        overlap: timedelta = form.cleaned_data["overlap"]
        actions.rotate_token(request.account, kind, overlap)
        if overlap:
            text = _(
                "The new %(name)s is in force. The old one goes on working for a while: see below until when."
            )
        else:
            text = _("The new %(name)s is in force. The old one has ended.")
        messages.success(request, text % {"name": name})
        return redirect("profile")
    context = {
        "form": form,
        "leaked": leaked,
        "kind": kind,
        "name": name,
        "rotated": Token.objects.rotated(request.account, kind).count(),
        "connected": connected(request.account).count() if kind == "device" else 0,
    }
    return render(request, "console/profile/rotate.html", SECTION | context)


def end_overlap(request: ConsoleRequest, kind: str) -> HttpResponse:
    name = _name(kind)
    if request.method == "POST":
        count = actions.revoke_rotated_tokens(request.account, kind)
        ended = ngettext("Ended: %(count)s older %(name)s.", "Ended: %(count)s older %(name)ss.", count)
        messages.success(request, ended % {"count": f"{count:,}", "name": name})
        return redirect("profile")
    question = _(
        "Every older %(name)s ends at once, and only the current one is left."
        " %(users)s with an older one are refused from now on."
    ) % {"name": name, "users": WHO_USES[kind]}
    texts = {"title": _("End the overlap"), "question": question, "action": _("End it now")}
    return render(request, "console/confirm.html", SECTION | texts | {"back": reverse("profile")})


def _name(kind: str) -> str:
    if kind not in NAMES:
        raise Http404
    return str(NAMES_IN_SENTENCES[kind])


@never_cache
@sign_in_limits.limit_passwords
def close(request: ConsoleRequest) -> HttpResponse:
    """Takes the account away from the person at once; a task purges its data."""
    user = User.objects.get(pk=request.actor.pk)
    form = CloseForm(request.POST or None, expected=user.email, actor=user)
    if form.is_valid():
        others = User.objects.filter(is_staff=True, is_active=True).exclude(pk=user.pk)
        if not user.is_staff or others.exists():
            actions.close_account(user)
            logout(request)
            messages.success(request, _("Your account is closed. Its data is being deleted."))
            return redirect("signin")
        form.add_error(None, _("You are the only operator: make another account one first."))
    return render(request, "console/profile/close.html", SECTION | {"form": form, "limits": _limits(user)})
