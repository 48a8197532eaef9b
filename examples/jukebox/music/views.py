"""The pages, and the gate in front of the audio files."""

from __future__ import annotations

import re
from urllib.parse import quote
from uuid import UUID, uuid4

from django import forms
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.views import redirect_to_login
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from music import plays
from music.models import ORDER, Play, Track

RECENT = 50
#: Browsers ask for the first byte or two to see whether ranges work: that is no play yet.
PROBE = re.compile(r"^bytes=0-[01]$")


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """All songs."""
    # Named again: a query that counts forgets the model's own order.
    tracks = Track.objects.annotate(times=Count("plays")).order_by(*ORDER)
    return render(request, "music/catalogue.html", {"tracks": tracks})


@require_safe
def track(request: HttpRequest, slug: str) -> HttpResponse:
    """One song."""
    found = get_object_or_404(Track.objects.annotate(times=Count("plays")), slug=slug)
    return render(request, "music/track.html", {"track": found})


class Beginning(forms.Form):
    """A player says which song it begins, and what it calls this hearing."""

    track = forms.SlugField()
    play = forms.UUIDField()


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def heard(request: HttpRequest) -> HttpResponse:
    """What this listener heard of late; by POST, that a song begins."""
    return begin_play(request) if request.method == "POST" else recent_plays(request)


def begin_play(request: HttpRequest) -> HttpResponse:
    """Has a play recorded: once, however often the player says so."""
    if not request.user.is_authenticated:
        return turn_away(request)
    form = Beginning(request.POST)
    if "track" in form.errors:
        raise Http404
    if "play" in form.errors:
        return no_uuid()
    found = get_object_or_404(Track, slug=form.cleaned_data["track"])
    play = form.cleaned_data["play"]
    plays.announce(plays.Event.now(play, request.user.pk, found.pk, timezone.now()))
    return JsonResponse({"play": str(play)}, status=202)


@login_required
def recent_plays(request: HttpRequest) -> HttpResponse:
    """What this listener heard of late."""
    recent = Play.objects.filter(listener=request.user).select_related("track")[:RECENT]
    return render(request, "music/plays.html", {"plays": recent})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Makes an account and signs in."""
    if request.user.is_authenticated:
        return redirect("catalogue")
    form = UserCreationForm(request.POST or None)
    if form.is_valid():
        login(request, form.save())
        return redirect("catalogue")
    return render(request, "registration/sign_up.html", {"form": form})


def begins(request: HttpRequest) -> bool:
    """Does this request start a song, rather than look at it, seek in it or go on with it?"""
    wanted = request.headers.get("Range", "bytes=0-").replace(" ", "")
    return request.method == "GET" and wanted.startswith("bytes=0-") and not PROBE.match(wanted)


def turn_away(request: HttpRequest) -> HttpResponse:
    """To the door for browsers, a plain refusal for programs."""
    if request.accepts("text/html") and "text/html" in request.headers.get("Accept", ""):
        return redirect_to_login(request.get_full_path())
    return HttpResponse("Sign in first: /sign-in/\n", status=401, content_type="text/plain")


def no_uuid() -> HttpResponse:
    """The play's name is none."""
    return HttpResponseBadRequest("play must be a UUID\n", content_type="text/plain")


@require_safe
def stream(request: HttpRequest, slug: str) -> HttpResponse:
    """Allows a listener to hear a song; nginx then sends the bytes, ranges and all.

    `?play=UUID` names the play, so that the many requests of one hearing are counted once.
    """
    if not request.user.is_authenticated:
        return turn_away(request)
    found = get_object_or_404(Track, slug=slug)
    try:
        play = UUID(request.GET["play"]) if "play" in request.GET else uuid4()
    except ValueError:
        return no_uuid()
    if begins(request):
        plays.announce(plays.Event.now(play, request.user.pk, found.pk, timezone.now()))
    response = HttpResponse(content_type=found.mime)
    response["X-Accel-Redirect"] = settings.MEDIA_PREFIX + quote(found.file, safe="")
    response["Content-Disposition"] = f'inline; filename="{found.file}"'
    # A browser may keep it but has to ask again: who signed out hears no more.
    response["Cache-Control"] = "private, no-cache"
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that did not come from our own page."""
    return render(request, "403_csrf.html", {"reason": reason}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """No such page or song."""
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Something broke here. Rendered without the session, which may be what broke."""
    from django.template.loader import render_to_string

    return HttpResponse(render_to_string("500.html"), status=500)
