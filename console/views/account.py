"""Signing in, signing up, resetting a password, and the theme."""

import re
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, PasswordResetConfirmView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.request import split_domain_port
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from console import known_browser, sign_in_limits, signing_in, unsent
from console.context import THEMES
from console.forms.account import (
    CodeForm,
    FirstEmailForm,
    FirstPasswordForm,
    NewPasswordForm,
    ResetForm,
    SignInForm,
    SignUpForm,
    add_errors,
    status_of,
    takes_code,
)
from console.request import ConsoleRequest, is_signed_in, own_path
from thingscale.accounts import actions, links, second_factor, tasks
from thingscale.accounts.models import User

A_YEAR = 365 * 24 * 3600
AN_HOUR = 3600
MAX_SHOWN = 2000  # characters of what a field has
ON_THIS_MACHINE = {"localhost", "127.0.0.1", "[::1]"}


class SignInView(LoginView):
    template_name = "console/account/signin.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        limits = signing_in.limits(request, request.POST.get("username", ""))
        if seconds := sign_in_limits.count_try(request, *limits):
            return sign_in_limits.refuse(request, seconds)
        return super().post(request, *args, **kwargs)

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """Leads to a page of ours, but not back to this one."""
        path = own_path(self.request, super().get_redirect_url())
        return "" if path.startswith(reverse("signin")) else path

    def form_valid(self, form: Any) -> HttpResponse:
        user: User = form.get_user()
        then = unsent.keep(self.request) or self.get_success_url()
        if second_factor.is_on(user):
            signing_in.ask_for_code(self.request, user, then)
            return redirect("signin-code")
        signing_in.sign_in(self.request, user)
        return known_browser.remember(HttpResponseRedirect(then), user)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"unsent": unsent.to_sign_in_with(self.request)}


@never_cache
def unsent_form(request: ConsoleRequest) -> HttpResponse:
    """Shows what was typed before the session was over."""
    if (form := unsent.kept(request)) is None:
        unsent.forget(request)
        return redirect("home")
    values: dict[str, list[str]] = {}
    for name, value in form.fields:
        # Without the counters and the empty cells of tables.
        if not name.endswith("_FORMS") and (value or "-" not in name):
            values.setdefault(name, []).append(value)
    shown = [
        (re.sub("[_-]", " ", name).capitalize(), Truncator(", ".join(each)).chars(MAX_SHOWN))
        for name, each in values.items()
    ]
    return render(request, "console/account/unsent.html", {"unsent": form, "shown": shown})


@require_POST
def unsent_send(request: ConsoleRequest) -> HttpResponse:
    """Redirects so that the browser sends this request on, with its fields, to where the form was to go."""
    form = unsent.kept(request)
    unsent.forget(request)
    return HttpResponseRedirect(form.path, preserve_request=True) if form else redirect("home")


@require_POST
def unsent_discard(request: ConsoleRequest) -> HttpResponse:
    form = unsent.kept(request)
    unsent.forget(request)
    return redirect(form.page if form else "home")


@login_not_required
@never_cache
def code(request: HttpRequest) -> HttpResponse:
    """The second step, for accounts with an authenticator."""
    if (waits := signing_in.pending(request)) is None:
        messages.info(request, _("Sign in again, please: the code has to follow within five minutes."))
        return redirect("signin")
    user, then = waits
    form = CodeForm(request.POST or None)
    if form.is_valid() and takes_code(form, user, request):
        signing_in.sign_in(request, user)
        return known_browser.remember(HttpResponseRedirect(then), user)
    return render(request, "console/account/code.html", {"form": form}, status=status_of(form))


@login_not_required
@never_cache
@sensitive_post_parameters("password")
def signup(request: HttpRequest) -> HttpResponse:
    if is_signed_in(request):
        return redirect("home")
    if not settings.SIGNUP:
        return render(request, "console/account/signup_closed.html", status=403)
    limit = sign_in_limits.of_network(request, "sign-up", tries=20, seconds=AN_HOUR)
    if request.POST and (seconds := sign_in_limits.count_try(request, limit)):
        return sign_in_limits.refuse(request, seconds)
    if settings.SIGNUP_VERIFY:
        return _mail_sign_up(request)
    form = SignUpForm(request.POST or None, initial={"locale": "UTC"})
    if form.is_valid() and (user := _created(form, form.cleaned_data)):
        signing_in.sign_in(request, user)
        return known_browser.remember(redirect("home"), user)
    return render(request, "console/account/signup.html", {"form": form})


def _mail_sign_up(request: HttpRequest) -> HttpResponse:
    """Answers the same whether or not there is an account."""
    form = FirstEmailForm(request.POST or None)
    if form.is_valid():
        email = form.cleaned_data["email"]
        limit = sign_in_limits.Limit("sign-up of an e-mail", known_browser.key(email), 5, AN_HOUR)
        if seconds := sign_in_limits.count_try(request, limit):
            return sign_in_limits.refuse(request, seconds)
        if error := mail_link(request, tasks.send_sign_up_link, email):
            form.add_error(None, error)
        else:
            return render(request, "console/account/signup_sent.html", {"email": email})
    return render(request, "console/account/signup.html", {"form": form})


@login_not_required
@never_cache
@sensitive_post_parameters("password")
def signup_confirm(request: HttpRequest, link: str) -> HttpResponse:
    """Opens the mailed link, which proves that the e-mail is theirs."""
    email = links.read_sign_up(link)
    if email is None or not settings.SIGNUP:
        messages.info(request, _("This link has ended or is not complete: ask for another one."))
        return redirect("signup")
    form = FirstPasswordForm(request.POST or None, initial={"locale": "UTC"})
    if form.is_valid() and (user := _created(form, form.cleaned_data | {"email": email})):
        signing_in.sign_in(request, user)
        return known_browser.remember(redirect("home"), user)
    return render(request, "console/account/signup.html", {"form": form, "email": email})


def _created(form: Any, fields: dict[str, Any]) -> User | None:
    try:
        return actions.create_account(**fields)
    except ValidationError as error:
        add_errors(form, error, "email" if "email" in form.fields else "password")
        return None


def mail_link(request: HttpRequest, task: Any, *arguments: object) -> str:
    """Has the link mailed, or says why it can't be."""
    base, host = str(settings.PUBLIC_URL), request.get_host()
    if not base and "*" in settings.ALLOWED_HOSTS and split_domain_port(host)[0] not in ON_THIS_MACHINE:
        # The request may name any host, and a link with a token must not lead there.
        return _("Links can't be mailed yet: the operator has to set THINGSCALE_PUBLIC_URL.")
    if not tasks.enqueue(task, *arguments, base or f"{request.scheme}://{host}"):
        return _("Mails can't be sent just now. Try again in some minutes.")
    return ""


@login_not_required
def reset(request: HttpRequest) -> HttpResponse:
    """Answers the same whether or not there is an account."""
    form = ResetForm(request.POST or None)
    if form.is_valid():
        email = form.cleaned_data["email"]
        limits = (
            sign_in_limits.of_network(request, "reset", seconds=AN_HOUR),
            sign_in_limits.Limit("reset of an account", known_browser.key(email), 5, AN_HOUR),
        )
        if seconds := sign_in_limits.count_try(request, *limits):
            return sign_in_limits.refuse(request, seconds)
        if error := mail_link(request, tasks.send_reset, email):
            form.add_error(None, error)
        else:
            return render(request, "console/account/reset_sent.html", {"email": email})
    return render(request, "console/account/reset.html", {"form": form})


class ResetConfirmView(PasswordResetConfirmView):
    template_name = "console/account/reset_confirm.html"
    form_class: Any = NewPasswordForm
    success_url = reverse_lazy("signin")

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, _("Your password is changed. Sign in with the new one."))
        return super().form_valid(form)


@login_not_required
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keeps the choice in a cookie, so that a page has the right colours from its first paint."""
    back = own_path(request, request.POST.get("next", ""))
    response = HttpResponseRedirect(back or reverse("home"))
    if (chosen := request.POST.get("theme")) in THEMES:
        response.set_cookie("theme", chosen, max_age=A_YEAR, samesite="Lax")
    return response
