"""Listeners join, sign in and out; forms are taken from our own pages only."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db
ORIGIN = {"origin": "https://jukebox.example"}


def token(client: Client, page: str) -> str:
    """The CSRF token in a page's form."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(page).text)
    assert found, f"{page} has no token"
    return found[1]


def test_a_new_listener_is_signed_in(visitor: Client) -> None:
    form = {"username": "grace", "password1": PASSWORD, "password2": PASSWORD}
    form["csrfmiddlewaretoken"] = token(visitor, "/sign-up/")
    answer = visitor.post("/sign-up/", form, headers=ORIGIN)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert User.objects.get(username="grace").check_password(PASSWORD)
    assert "What will it be, grace?" in visitor.get("/").text


@pytest.mark.parametrize("password", ["password", "short", "12345678901"])
def test_a_weak_password_is_refused_with_a_reason(visitor: Client, password: str) -> None:
    form = {"username": "grace", "password1": password, "password2": password}
    form["csrfmiddlewaretoken"] = token(visitor, "/sign-up/")
    answer = visitor.post("/sign-up/", form, headers=ORIGIN)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert not User.objects.exists()


def test_signing_in_and_out(visitor: Client, listener: User) -> None:
    form = {"username": "ada", "password": PASSWORD, "next": "/plays/"}
    form["csrfmiddlewaretoken"] = token(visitor, "/sign-in/?next=/plays/")
    answer = visitor.post("/sign-in/", form, headers=ORIGIN)
    assert (answer.status_code, answer["Location"]) == (302, "/plays/")
    cookie = answer.cookies["sessionid"]
    assert cookie["secure"] and cookie["httponly"] and cookie["samesite"] == "Lax"

    out = {"csrfmiddlewaretoken": token(visitor, "/plays/")}
    assert visitor.post("/sign-out/", out, headers=ORIGIN).status_code == 302
    assert visitor.get("/plays/").status_code == 302


def test_a_wrong_password_says_so(visitor: Client, listener: User) -> None:
    form = {"username": "ada", "password": "wrong"}
    form["csrfmiddlewaretoken"] = token(visitor, "/sign-in/")
    answer = visitor.post("/sign-in/", form, headers=ORIGIN)
    assert answer.status_code == 200
    assert "Please enter a correct username and password" in answer.text


def test_signing_in_never_leads_to_another_site(visitor: Client, listener: User) -> None:
    form = {"username": "ada", "password": PASSWORD, "next": "https://elsewhere.example/"}
    form["csrfmiddlewaretoken"] = token(visitor, "/sign-in/")
    assert visitor.post("/sign-in/", form, headers=ORIGIN)["Location"] == "/"


@pytest.mark.parametrize("page", ["/sign-in/", "/sign-up/", "/sign-out/"])
def test_a_form_without_token_is_refused(visitor: Client, page: str) -> None:
    answer = visitor.post(page, {"username": "ada", "password": PASSWORD}, headers=ORIGIN)
    assert answer.status_code == 403
    assert "That form was not ours" in answer.text


def test_a_form_from_another_site_is_refused(visitor: Client, listener: User) -> None:
    form = {"username": "ada", "password": PASSWORD}
    form["csrfmiddlewaretoken"] = token(visitor, "/sign-in/")
    answer = visitor.post("/sign-in/", form, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
