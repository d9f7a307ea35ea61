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
    profile,
    rules,
    security,
    streams,
)

urlpatterns = [
    path("", home.home, name="home"),
    path("signin/", account.SignIn.as_view(), name="signin"),
    path("signin/code/", account.code, name="signin-code"),
    path("signup/", account.signup, name="signup"),
    path("reset/", account.reset, name="reset"),
    path("reset/<uidb64>/<token>/", account.ResetConfirm.as_view(), name="reset-confirm"),
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
    path("publish/", home.home, name="publish"),
    path("inspector/", home.home, name="inspector"),
    # account
    path("profile/", profile.profile, name="profile"),
    path("profile/email/", profile.email, name="profile-email"),
    path("profile/password/", security.password, name="profile-password"),
    path("profile/close/", profile.close, name="profile-close"),
    path("profile/tokens/<slug:kind>/rotate/", profile.rotate, name="token-rotate"),
    path("profile/tokens/<slug:kind>/end-overlap/", profile.end_overlap, name="token-end-overlap"),
    path("profile/sessions/", security.sessions, name="sessions"),
    path("profile/sessions/end-others/", security.end_other_sessions, name="sessions-end-others"),
    path("profile/sessions/<slug:name>/end/", security.end_session, name="session-end"),
    path("rules/", rules.index, name="rules"),
    path("rules/preview/", rules.preview, name="rules-preview"),
    path("rules/<int:pk>/move/", rules.move, name="rule-move"),
    path("rules/<int:pk>/delete/", rules.delete, name="rule-delete"),
    path("profile/two-factor/", security.two_factor, name="two-factor"),
    path("profile/two-factor/setup/", security.set_up, name="two-factor-setup"),
    path("profile/two-factor/end/", security.end_two_factor, name="two-factor-end"),
    path("profile/two-factor/codes/", security.new_codes, name="two-factor-codes"),
]
