"""Pages of the management console."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from console.views import (
    account,
    channels,
    device_bulk,
    device_files,
    device_page,
    devices,
    home,
    inspector,
    publish,
    start,
    streams,
)

urlpatterns = [
    path("signin/", account.SignIn.as_view(), name="signin"),
    path("signout/", LogoutView.as_view(), name="signout"),
    path("theme/", account.theme, name="theme"),
    path("channels/", channels.index, name="channels"),
    path("channels/new/", channels.create, name="channel-new"),
    path("channels/<int:number>/", channels.edit, name="channel"),
    path("channels/<int:number>/delete/", channels.delete, name="channel-delete"),
    path("channels/<int:number>/tags/<int:pk>/", channels.rename_tag, name="tag"),
    path("channels/<int:number>/tags/<int:pk>/delete/", channels.delete_tag, name="tag-delete"),
    path("devices/", devices.index, name="devices"),
    path("devices/new/", devices.create, name="device-new"),
    path("devices/import/", device_files.import_csv, name="devices-import"),
    path("devices/import/example.csv", device_files.example_csv, name="devices-example"),
    path("devices/export/", device_files.export_csv, name="devices-export"),
    path("devices/bulk/", device_bulk.bulk, name="devices-bulk"),
    path("devices/<int:pk>/", device_page.detail, name="device"),
    path("devices/<int:pk>/edit/", devices.edit, name="device-edit"),
    path("devices/<int:pk>/map/", devices.map_to, name="device-map"),
    path("devices/<int:pk>/enable/", devices.switch, {"on": True}, name="device-enable"),
    path("devices/<int:pk>/disable/", devices.switch, {"on": False}, name="device-disable"),
    path("devices/<int:pk>/delete/", devices.delete, name="device-delete"),
    path("streams/", streams.index, name="streams"),
    path("streams/<int:number>/", streams.detail, name="stream"),
    path("streams/<int:number>/chart.json", streams.chart, name="stream-chart"),
    *[
        path(f"streams/<int:number>/data.{form}", streams.download, {"form": form}, name=f"stream-{form}")
        for form in streams.FILES
    ],
    path("profile/", home.home, name="profile"),
    # What comes and goes: home, the first datapoint, inspector, publish.
    path("", home.home, name="home"),
    path("start/", start.start, name="start"),
    path("start/arrived/", start.panel, name="start-arrived"),
    path("start/enable/<int:pk>/", start.enable, name="start-enable"),
    path("inspector/", inspector.inspector, name="inspector"),
    path("publish/", publish.publish, name="publish"),
    path("publish/devices/", publish.devices, name="publish-devices"),
]
