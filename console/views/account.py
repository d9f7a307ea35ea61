"""Coming in, going out, and how the console looks."""

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from console.context import THEMES
from console.forms.account import SignInForm

A_YEAR = 365 * 24 * 3600


class SignIn(LoginView):
    template_name = "console/account/signin.html"
    form_class = SignInForm
    redirect_authenticated_user = True


@login_not_required
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keeps the choice in a cookie, so that the page comes in the right colours at once."""
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, request.is_secure())
    response = redirect(back if safe else "home")
    if (chosen := request.POST.get("theme")) in THEMES:
        response.set_cookie("theme", chosen, max_age=A_YEAR, samesite="Lax")
    return response
