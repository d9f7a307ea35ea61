"""/v2/maintenance: windows in which nobody is notified of some devices."""

from typing import Any

from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.arrays import array
from api.v2.serializers import Text, Time
from api.viewsets import AccountViewSet, ok, path_number, stream_time
from thingscale.events.actions import create_maintenance_window, end_maintenance_window
from thingscale.events.models import MaintenanceWindow
from thingscale.lib.errors import ContractError


class MaintenanceSerializer(serializers.Serializer[MaintenanceWindow]):
    """Context: `actor`. The validated data is what create_maintenance_window() takes."""

    devices = Text(64, default="*")
    starts_at = Time(default=timezone.now)
    ends_at = Time()
    note = Text(200)

    def to_representation(self, instance: MaintenanceWindow) -> dict[str, Any]:
        actor = self.context["actor"]
        return {
            "maintenance_id": instance.pk,
            "devices": instance.devices,
            "starts_at": stream_time(instance.starts_at, actor),
            "ends_at": stream_time(instance.ends_at, actor),
            "note": instance.note,
        }


class MaintenanceViewSet(AccountViewSet[MaintenanceWindow]):
    queryset = MaintenanceWindow.objects.all()
    serializer_class = MaintenanceSerializer
    missing = ("NO_MAINTENANCE", "You have no maintenance window with this id that is not over.")

    def list(self, request: Request) -> HttpResponseBase:
        return array(map(self.get_serializer().to_representation, self.to_come()))

    def create(self, request: Request) -> Response:
        window = create_maintenance_window(self.request.account, **self.changes())
        return Response({"maintenance_id": window.pk}, 201)

    def destroy(self, request: Request, number: str) -> Response:
        key = path_number(number)
        window = None if key is None else self.to_come().filter(pk=key).first()
        if window is None:
            raise ContractError(*self.missing)
        end_maintenance_window(window)
        return ok()

    def to_come(self) -> Any:
        """Those that last, and those that have not begun."""
        return self.get_queryset().filter(ends_at__gt=timezone.now())
