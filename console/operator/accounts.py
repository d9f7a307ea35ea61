"""Accounts: who they are, what they may use, whether they may come in."""

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.operator.forms import AccountForm, NewAccountForm, OperatorPasswordForm
from console.request import ConsoleRequest
from thingscale.accounts import actions, second_factor
from thingscale.accounts.models import User
from thingscale.lib.plurals import counted
from thingscale.provisioning.accounts import change_account

if TYPE_CHECKING:
    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin

RIGHTS = ("is_active", "is_staff")


class AccountAdmin(_UserAdmin):
    ordering = ("pk",)
    list_display = (
        "user_id",
        "email",
        "kind",
        "organization",
        "is_active",
        "is_staff",
        "date_joined",
        "last_login",
    )
    list_filter = ("kind", "is_active", "is_staff")
    search_fields = ("email", "organization", "user_alias")
    search_help_text = gettext_lazy("User id, or a part of e-mail, organization or name")
    filter_horizontal = ()
    add_form = NewAccountForm
    form: Any = AccountForm
    change_password_form = OperatorPasswordForm
    add_fieldsets = ((None, {"fields": ("email", "password", "locale", "kind", "is_staff")}),)
    fieldsets = (
        (None, {"fields": ("email", "password_link", "two_factor")}),
        (
            "About",
            {"fields": ("kind", "user_alias", "organization", "email1", "email2", "locale", "language")},
        ),
        (
            "Limits",
            {
                "fields": (
                    *("rest_rate", "max_storage", "when_full", "max_devices", "max_channels", "max_tags"),
                    *("max_keys", "max_events", "max_rules", "max_held", "max_rejected"),
                    *("max_retained", "max_connections", "max_durable_sessions", "max_queued"),
                )
            },
        ),
        ("Rights", {"fields": ("is_active", "is_staff", "date_joined", "last_login", "closed_at")}),
    )
    readonly_fields = ("password_link", "two_factor", "date_joined", "last_login", "closed_at")
    actions = ("sign_out", "turn_off_two_factor", "reset_limits")

    @admin.display(description=gettext_lazy("Password"))
    def password_link(self, user: User) -> SafeString:
        return mark_safe('<a href="../password/">Set a new one</a>')

    @admin.display(description=gettext_lazy("Two-factor sign-in"), boolean=True)
    def two_factor(self, user: User) -> bool:
        return second_factor.is_on(user)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Nobody locks himself out, and a closed account stays closed."""
        fixed = obj is not None and (_is_self(request, obj) or obj.closed_at is not None)
        closed = ("email",) if obj is not None and obj.closed_at else ()
        return (*self.readonly_fields, *RIGHTS, *closed) if fixed else self.readonly_fields

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        term = search_term.strip().upper()
        if term[:1] == "U" and term[1:].isdecimal() and len(term) < 18:
            return queryset.filter(pk=int(term[1:])), False
        return super().get_search_results(request, queryset, search_term)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """A new one is saved by its form."""
        if change:
            change_account(obj, {name: form.cleaned_data[name] for name in form.changed_data})

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return obj is not None and not _is_self(request, obj) and obj.closed_at is None

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """The page that asks would count everything there is."""
        shown = [f"{user.user_id} {user.email} with all devices, channels and datapoints" for user in objs]
        return shown, {}, set(), []

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        actions.close_account(obj)

    @admin.action(description=gettext_lazy("Sign out of all browsers"))
    def sign_out(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        count = sum(actions.end_sessions(user) for user in queryset)
        messages.success(request, f"{counted(count, 'session')} ended.")

    @admin.action(description=gettext_lazy("Set all limits to those of a new account"))
    def reset_limits(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            actions.reset_limits(user)
        messages.success(
            request, f"{counted(queryset.count(), 'account has,accounts have')} the limits of a new one."
        )

    @admin.action(
        description=gettext_lazy("Turn off two-factor sign-in (who lost the app and the recovery codes)")
    )
    def turn_off_two_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            actions.end_second_factor(user)
        messages.success(request, _("Their password alone lets them in. Tell them to set it up again."))


def _is_self(request: HttpRequest, user: User) -> bool:
    return cast(ConsoleRequest, request).actor == user
