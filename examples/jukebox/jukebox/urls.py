"""The addresses. /healthz, /readyz and /version are answered earlier, in health.py."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from music import views

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("tracks/<slug:slug>/", views.track, name="track"),
    path("tracks/<slug:slug>/stream", views.stream, name="stream"),
    path("plays/", views.heard, name="plays"),
    path("sign-up/", views.sign_up, name="sign-up"),
    path("sign-in/", LoginView.as_view(redirect_authenticated_user=True), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
]

handler404 = "music.views.not_found"
handler500 = "music.views.server_error"
