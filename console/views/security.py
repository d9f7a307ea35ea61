"""What keeps others out: the password, the list of signed-in browsers, the second factor."""

from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from console import client_info, sign_in_limits
from console.forms.account import status_of, takes_code
from console.forms.profile import PasswordAndCodeForm, PasswordForm, SetUpForm
from console.request import ConsoleRequest
from thingscale.accounts import actions, second_factor
from thingscale.accounts.models import Session, User
from thingscale.lib.errors import ContractError

SECTION = {"section": "profile"}


@never_cache
@sign_in_limits.limit_passwords
def password(request: ConsoleRequest) -> HttpResponse:
    user = User.objects.get(pk=request.actor.pk)
    form = PasswordForm(request.POST or None, user=user)
    if form.is_valid():
        actions.change_password(user, form.cleaned_data["password"], keep=request.session.session_key)
        update_session_auth_hash(request, user)
        messages.success(request, _("Your password is changed. Other browsers have been signed out."))
        return redirect("profile")
    return render(request, "console/profile/password.html", SECTION | {"form": form})


# Sessions


def sessions(request: ConsoleRequest) -> HttpResponse:
    found = Session.objects.for_actor(request.actor)[:100]
    mine = request.session.session_key
    rows = [
        {"session": row, "browser": client_info.browser(row.user_agent), "this": row.session_key == mine}
        for row in found
    ]
    rows.sort(key=lambda row: not row["this"])
    return render(request, "console/profile/sessions.html", SECTION | {"rows": rows})


@require_POST
def end_session(request: ConsoleRequest, name: str) -> HttpResponse:
    for session in Session.objects.for_actor(request.actor):
        if session.name == name:
            actions.end_session(session)
            messages.success(
                request, _("Signed out: %(value)s.") % {"value": client_info.browser(session.user_agent)}
            )
            return redirect("sessions")
    raise Http404


@require_POST
def end_other_sessions(request: ConsoleRequest) -> HttpResponse:
    count = actions.end_sessions(request.actor, keep=request.session.session_key)
    ended = ngettext("Signed out: %(count)s other browser.", "Signed out: %(count)s other browsers.", count)
    messages.success(request, ended % {"count": f"{count:,}"})
    return redirect("sessions")


# The second factor


@never_cache
def two_factor(request: ConsoleRequest) -> HttpResponse:
    actor = request.actor
    if request.method == "POST" and not second_factor.is_on(actor):
        actions.begin_second_factor(actor)
        return redirect("two-factor-setup")
    context = {"on": second_factor.is_on(actor), "codes_left": second_factor.codes_left(actor)}
    return render(request, "console/profile/two_factor.html", SECTION | context)


@never_cache
@sign_in_limits.limit_passwords
def set_up(request: ConsoleRequest) -> HttpResponse:
    device: Any = second_factor.waiting(request.actor)
    if device is None:
        return redirect("two-factor")
    form = SetUpForm(request.POST or None, actor=request.actor)
    if form.is_valid():
        try:
            codes = actions.confirm_second_factor(request.actor, form.cleaned_data["code"])
        except ContractError as refused:
            form.add_error("code", refused.detail)
        else:
            return _show_codes(request, codes)
    # A QR code as SVG. It keeps its quiet zone, and its colours in a dark page too, or phones can't read it.
    code = segno.make(device.config_url, error="m", micro=False)
    svg = code.svg_inline(scale=5, border=3, dark="#000", light="#fff", svgclass="qr")
    picture = mark_safe(svg)  # noqa: S308 (made of squares)
    context = {"form": form, "qr": picture, "secret": second_factor.secret(device)}
    return render(request, "console/profile/two_factor_setup.html", SECTION | context)


@never_cache
@sign_in_limits.limit_passwords
def end_two_factor(request: ConsoleRequest) -> HttpResponse:
    form = PasswordAndCodeForm(request.POST or None, actor=request.actor)
    if form.is_valid() and takes_code(form, request.actor, request):
        actions.end_second_factor(request.actor)
        messages.success(request, _("Two-factor sign-in is off. Your password alone lets you in."))
        return redirect("two-factor")
    texts = {
        "title": _("Turn off two-factor sign-in"),
        "question": _(
            "From then on your password alone lets anyone in who knows it. The recovery codes end."
        ),
        "action": _("Turn off"),
    }
    context = SECTION | texts | {"form": form}
    return render(request, "console/profile/two_factor_ask.html", context, status=status_of(form))


@never_cache
@sign_in_limits.limit_passwords
def new_codes(request: ConsoleRequest) -> HttpResponse:
    form = PasswordAndCodeForm(request.POST or None, actor=request.actor)
    if form.is_valid() and takes_code(form, request.actor, request):
        return _show_codes(request, actions.make_recovery_codes(request.actor))
    texts = {
        "title": _("New recovery codes"),
        "question": _("You get ten new codes. Those you have now end."),
        "action": _("Make new codes"),
    }
    context = SECTION | texts | {"form": form}
    return render(request, "console/profile/two_factor_ask.html", context, status=status_of(form))


def _show_codes(request: ConsoleRequest, codes: list[str]) -> HttpResponse:
    return render(request, "console/profile/recovery_codes.html", SECTION | {"codes": codes})
