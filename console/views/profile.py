"""A person's account: how it is reached, what it may use, its tokens, its end."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from console import known_browser, throttle
from console.forms.account import tell
from console.forms.profile import CloseForm, EmailForm, ProfileForm, RotateForm, WhenFullForm
from console.request import UserRequest
from console.views.account import mail_link
from thingscale.accounts import actions, links, notices, second_factor, tasks
from thingscale.accounts.limits import WhenFull
from thingscale.accounts.models import Session, Token, User
from thingscale.devices.presence import connected
from thingscale.lib.plurals import counted
from thingscale.streams.limit_warnings import update_near_limits
from thingscale.streams.usage import limit_use, used_storage

SECTION = {"section": "profile"}
STAYS = "Until you have opened it, you sign in as before."
NAMES = {"api": "API token", "device": "Device token"}
WHEN_FULL_CHOSEN = {
    WhenFull.REFUSE: "When the storage is full, new data is refused. Nothing is deleted for it any more.",
    WhenFull.DROP_OLDEST: "When the storage is full, the oldest datapoints are deleted from now on.",
}
WHO_USES = {"api": "REST requests", "device": "HTTP and MQTT messages of devices"}


@never_cache
def profile(request: UserRequest) -> HttpResponse:
    user = request.user
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=user.pk))
    if form.is_valid():
        actions.update_account(user, form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect("profile")
    context = {
        "form": form,
        "tokens": [_shown(user, kind) for kind in NAMES],
        "limits": _limits(user),
        "choosable": True,
        "two_factor": second_factor.is_on(user),
        "sessions": Session.objects.for_user(user).count(),
    }
    return render(request, "console/profile/profile.html", SECTION | context)


def _shown(user: User, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": NAMES[kind],
        "users": WHO_USES[kind],
        "plain": Token.objects.current(user, kind).plain,
        "rotated": list(Token.objects.rotated(user, kind)),
    }


def _limits(user: User) -> dict[str, Any]:
    """What is used, and of how much."""
    measured = limit_use([user])
    used = measured[user.id]
    update_near_limits([user], measured)  # whoever has made room comes here to see it
    return {"storage": used_storage(user), "use": used} | {
        name: used[name].used for name in ("devices", "channels")
    }


@never_cache
def when_full(request: UserRequest) -> HttpResponse:
    user = User.objects.get(pk=request.user.pk)
    form = WhenFullForm(request.POST or None, now=user.when_full, initial={"when_full": user.when_full})
    if form.is_valid():
        actions.choose_when_full(user, form.cleaned_data["when_full"])
        messages.success(request, WHEN_FULL_CHOSEN[WhenFull(form.cleaned_data["when_full"])])
        return redirect(f"{reverse('profile')}#limits")
    context = SECTION | {"form": form, "storage": used_storage(user), "most": user.max_storage}
    return render(request, "console/profile/when_full.html", context)


@never_cache
@throttle.passwords
def email(request: UserRequest) -> HttpResponse:
    form = EmailForm(request.POST or None, user=request.user, initial={"email": request.user.email})
    if form.is_valid():
        user, new = User.objects.get(pk=request.user.pk), form.cleaned_data["email"]
        try:
            if not settings.EMAIL_HOST:
                return _changed_email(request, user, new)
            actions.check_email(User.objects.get(pk=user.pk), new)
        except ValidationError as error:
            tell(form, error, "email")
        else:
            if problem := mail_link(request, tasks.send_email_link, user.pk, new):
                form.add_error(None, problem)
            else:
                notices.tell(user, notices.Notice.EMAIL_ASKED)
                messages.success(request, f"A link is on its way to {new}: it changes your e-mail. {STAYS}")
                return redirect("profile")
    return render(
        request, "console/profile/email.html", SECTION | {"form": form, "mail": settings.EMAIL_HOST}
    )


@never_cache
def confirm_email(request: UserRequest, link: str) -> HttpResponse:
    """Where the mailed link leads. A question first: programs that look at mails open links."""
    user = User.objects.get(pk=request.user.pk)
    new = links.read_email_change(link, user)
    if new is None:
        messages.info(request, "This link has ended, or is of another account: ask for another one.")
        return redirect("profile-email")
    if request.method == "POST":
        try:
            return _changed_email(request, user, new)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return redirect("profile-email")
    texts = {
        "title": "Change e-mail",
        "question": f"You sign in with {new} from now on, and no longer with {user.email}.",
        "action": "Change e-mail",
    }
    return render(request, "console/confirm.html", SECTION | texts | {"back": reverse("profile")})


def _changed_email(request: UserRequest, user: User, email: str) -> HttpResponse:
    actions.change_email(user, email)
    messages.success(request, f"You sign in with {email} from now on.")
    return known_browser.remember(redirect("profile"), user)


def rotate(request: UserRequest, kind: str) -> HttpResponse:
    name = _name(kind)
    leaked = "leaked" in request.GET
    form = RotateForm(request.POST or None, initial={"overlap": "0"} if leaked else None)
    if form.is_valid():
        overlap: timedelta = form.cleaned_data["overlap"]
        actions.rotate_token(request.user, kind, overlap)
        until = "goes on working for a while: see below until when" if overlap else "has ended"
        messages.success(request, f"The new {name} is in force. The old one {until}.")
        return redirect("profile")
    context = {
        "form": form,
        "leaked": leaked,
        "kind": kind,
        "name": name,
        "rotated": Token.objects.rotated(request.user, kind).count(),
        "connected": connected(request.user).count() if kind == "device" else 0,
    }
    return render(request, "console/profile/rotate.html", SECTION | context)


def end_overlap(request: UserRequest, kind: str) -> HttpResponse:
    name = _name(kind)
    if request.method == "POST":
        count = actions.revoke_rotated_tokens(request.user, kind)
        messages.success(request, f"Ended: {counted(count, f'older {name}')}.")
        return redirect("profile")
    question = (
        f"Every older {name} ends at once, and only the current one is left."
        f" {WHO_USES[kind][0].upper()}{WHO_USES[kind][1:]} with an older one are refused from now on."
    )
    texts = {"title": "End the overlap", "question": question, "action": "End it now"}
    return render(request, "console/confirm.html", SECTION | texts | {"back": reverse("profile")})


def _name(kind: str) -> str:
    if kind not in NAMES:
        raise Http404
    return NAMES[kind].replace("Device", "device")


@never_cache
@throttle.passwords
def close(request: UserRequest) -> HttpResponse:
    """Takes the account away from the person at once; a task purges its data."""
    user = User.objects.get(pk=request.user.pk)
    form = CloseForm(request.POST or None, expected=user.email, user=user)
    if form.is_valid() and not _is_needed(form, user):
        actions.close_account(user)
        logout(request)
        messages.success(request, "Your account is closed. Its data is being deleted.")
        return redirect("signin")
    return render(request, "console/profile/close.html", SECTION | {"form": form, "limits": _limits(user)})


def _is_needed(form: CloseForm, user: User) -> bool:
    others = User.objects.filter(is_staff=True, is_active=True).exclude(pk=user.pk)
    if needed := user.is_staff and not others.exists():
        form.add_error(None, "You are the only operator: make another account one first.")
    return needed
