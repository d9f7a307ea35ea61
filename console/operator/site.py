"""The admin site, behind the console's own sign-in."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView, redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from console.request import is_signed_in


class OperatorSite(AdminSite):
    site_header = site_title = "ThingScale operator"
    index_title = "Operator"
    index_template = "console/operator/index.html"

    @method_decorator(never_cache)
    @login_not_required
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if self.has_permission(request):
            return redirect("admin:index")
        if is_signed_in(request):
            raise Http404
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return LogoutView.as_view()(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return redirect("profile-password")

    def get_urls(self) -> list[URLResolver | URLPattern]:
        from console.operator import health

        ours = path("health/", self.admin_view(health.page), name="health")
        return [ours, *super().get_urls()]
