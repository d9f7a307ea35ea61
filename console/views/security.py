"""What keeps others out of an account: password, sessions, the second factor."""

from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from console import client_info, throttle
from console.forms.account import status_of, takes_code
from console.forms.profile import PasswordAndCodeForm, PasswordForm, SetUpForm
from console.request import UserRequest
from thingscale.accounts import actions, second_factor
from thingscale.accounts.models import Session, User
from thingscale.lib.errors import ContractError
from thingscale.lib.plurals import counted

SECTION = {"section": "profile"}


@never_cache
@throttle.passwords
def password(request: UserRequest) -> HttpResponse:
    user = User.objects.get(pk=request.user.pk)
    form = PasswordForm(request.POST or None, user=user)
    if form.is_valid():
        actions.change_password(user, form.cleaned_data["password"], keep=request.session.session_key)
        update_session_auth_hash(request, user)
        messages.success(request, "Your password is changed. Other browsers have been signed out.")
        return redirect("profile")
    return render(request, "console/profile/password.html", SECTION | {"form": form})


# Sessions


def sessions(request: UserRequest) -> HttpResponse:
    found = Session.objects.for_user(request.user)[:100]
    mine = request.session.session_key
    rows = [
        {"session": row, "browser": client_info.browser(row.user_agent), "this": row.session_key == mine}
        for row in found
    ]
    rows.sort(key=lambda row: not row["this"])
    return render(request, "console/profile/sessions.html", SECTION | {"rows": rows})


@require_POST
def end_session(request: UserRequest, name: str) -> HttpResponse:
    for session in Session.objects.for_user(request.user):
        if session.name == name:
            actions.end_session(session)
            messages.success(request, f"Signed out: {client_info.browser(session.user_agent)}.")
            return redirect("sessions")
    raise Http404


@require_POST
def end_other_sessions(request: UserRequest) -> HttpResponse:
    count = actions.end_sessions(request.user, keep=request.session.session_key)
    messages.success(request, f"Signed out: {counted(count, 'other browser')}.")
    return redirect("sessions")


# The second factor


@never_cache
def two_factor(request: UserRequest) -> HttpResponse:
    user = request.user
    if request.method == "POST" and not second_factor.is_on(user):
        actions.begin_second_factor(user)
        return redirect("two-factor-setup")
    context = {"on": second_factor.is_on(user), "codes_left": second_factor.codes_left(user)}
    return render(request, "console/profile/two_factor.html", SECTION | context)


@never_cache
@throttle.passwords
def set_up(request: UserRequest) -> HttpResponse:
    device: Any = second_factor.waiting(request.user)
    if device is None:
        return redirect("two-factor")
    form = SetUpForm(request.POST or None, user=request.user)
    if form.is_valid():
        try:
            codes = actions.confirm_second_factor(request.user, form.cleaned_data["code"])
        except ContractError as refused:
            form.add_error("code", refused.detail)
        else:
            return _show_codes(request, codes)
    secret = second_factor.secret(device)
    context = {"form": form, "qr": _picture(device.config_url), "secret": secret}
    return render(request, "console/profile/two_factor_setup.html", SECTION | context)


@never_cache
@throttle.passwords
def end_two_factor(request: UserRequest) -> HttpResponse:
    form = PasswordAndCodeForm(request.POST or None, user=request.user)
    if form.is_valid() and takes_code(form, request.user, request):
        actions.end_second_factor(request.user)
        messages.success(request, "Two-factor sign-in is off. Your password alone lets you in.")
        return redirect("two-factor")
    texts = {
        "title": "Turn off two-factor sign-in",
        "question": "From then on your password alone lets anyone in who knows it. The recovery codes end.",
        "action": "Turn off",
    }
    return render(
        request,
        "console/profile/two_factor_ask.html",
        SECTION | texts | {"form": form},
        status=status_of(form),
    )


@never_cache
@throttle.passwords
def new_codes(request: UserRequest) -> HttpResponse:
    form = PasswordAndCodeForm(request.POST or None, user=request.user)
    if form.is_valid() and takes_code(form, request.user, request):
        return _show_codes(request, actions.make_recovery_codes(request.user))
    texts = {
        "title": "New recovery codes",
        "question": "You get ten new codes. Those you have now end.",
        "action": "Make new codes",
    }
    return render(
        request,
        "console/profile/two_factor_ask.html",
        SECTION | texts | {"form": form},
        status=status_of(form),
    )


def _ask(request: UserRequest, form: PasswordAndCodeForm, texts: dict[str, str]) -> HttpResponse:
    context = SECTION | texts | {"form": form}
    return render(request, "console/profile/two_factor_ask.html", context, status=status_of(form))


def _show_codes(request: UserRequest, codes: list[str]) -> HttpResponse:
    return render(request, "console/profile/recovery_codes.html", SECTION | {"codes": codes})


def _picture(url: str) -> str:
    """A QR code as SVG, with its quiet zone: it must be dark on light in a dark page too."""
    code = segno.make(url, error="m", micro=False)
    svg = code.svg_inline(scale=5, border=3, dark="#000", light="#fff", svgclass="qr")
    return mark_safe(svg)  # noqa: S308 (made of squares)
