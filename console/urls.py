"""Pages of the management console."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from console.views import account, channels, home

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
    path("devices/", home.home, name="devices"),
    path("streams/", home.home, name="streams"),
    path("publish/", home.home, name="publish"),
    path("inspector/", home.home, name="inspector"),
    path("profile/", home.home, name="profile"),
]
