"""A look at what accounts have. Nothing is changed here."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(_ModelAdmin):
    list_select_related: ClassVar[Any] = ("user",)
    list_per_page = 50
    show_full_result_count = False
    ordering = ("-pk",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class DeviceAdmin(ReadOnlyAdmin):
    list_display = ("device_id", "user", "enabled", "mapped_channel", "created_at", "activate_at")
    list_select_related = ("user", "mapped_channel")
    list_filter = ("enabled",)
    search_fields = ("device_id", "user__email")


class ChannelAdmin(ReadOnlyAdmin):
    list_display = ("number", "user", "name", "retention_days", "created_at")
    search_fields = ("name", "user__email")


class EventAdmin(ReadOnlyAdmin):
    list_display = ("number", "user", "description", "mapped_channel", "notify_type", "enabled")
    list_select_related = ("user", "mapped_channel")
    list_filter = ("enabled", "notify_type")
    search_fields = ("description", "user__email")


class RejectedAdmin(ReadOnlyAdmin):
    list_display = ("received_at", "user", "device_id", "source", "reason", "size")
    list_filter = ("reason",)
    search_fields = ("device_id", "user__email")
