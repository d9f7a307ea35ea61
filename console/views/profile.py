"""A person's account: how it is reached, what it may use, its tokens, its end."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from console import throttle
from console.forms.account import tell
from console.forms.profile import CloseForm, EmailForm, ProfileForm, RotateForm
from console.request import UserRequest
from thingscale.accounts import actions, second_factor
from thingscale.accounts.models import Session, Token, User
from thingscale.devices.models import Device
from thingscale.devices.presence import connected
from thingscale.streams.models import Channel
from thingscale.streams.usage import used_storage

SECTION = {"section": "profile"}
NAMES = {"api": "API token", "device": "Device token"}
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
    return {
        "storage": used_storage(user),
        "devices": Device.objects.for_user(user).count(),
        "channels": Channel.objects.for_user(user).count(),
    }


@never_cache
@throttle.passwords
def email(request: UserRequest) -> HttpResponse:
    form = EmailForm(request.POST or None, user=request.user, initial={"email": request.user.email})
    if form.is_valid():
        try:
            actions.change_email(User.objects.get(pk=request.user.pk), form.cleaned_data["email"])
        except ValidationError as error:
            tell(form, error, "email")
        else:
            messages.success(request, f"You sign in with {form.cleaned_data['email']} from now on.")
            return redirect("profile")
    return render(request, "console/profile/email.html", SECTION | {"form": form})


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
        messages.success(request, f"Ended: {count} older {name}{'' if count == 1 else 's'}.")
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
