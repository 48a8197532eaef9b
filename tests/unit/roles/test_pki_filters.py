"""Who needs another certificate, and what a controller signs."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.unit.roles.authorities import Authority, key, request

NAMES = ("DNS:db1", "DNS:localhost", "DNS:database", "IP:198.51.100.31", "IP:127.0.0.1")
OWN = key()
FIRST, SECOND = Authority("first"), Authority("second")
REQUEST = request(OWN, "db1", NAMES)


@pytest.fixture(scope="module")
def pki(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("pki/filter_plugins/pki.py")


def reasons(pki: ModuleType, pem: str, csr: str = REQUEST, ca: Authority = FIRST) -> list[str]:
    found: list[str] = pki.leaf_faults(pem, csr, ca.pem, 30)
    return found


def test_a_good_certificate_is_left_alone(pki: ModuleType) -> None:
    assert reasons(pki, FIRST.leaf(OWN, "db1", NAMES)) == []
    assert reasons(pki, FIRST.leaf(OWN, "db1", tuple(reversed(NAMES)), ends=30.01)) == []


@pytest.mark.parametrize(
    ("ends", "said"),
    [(29.9, "it ends in 29 days"), (0.5, "it ends in 0 days"), (-0.5, "it has expired")],
)
def test_one_that_ends_soon_is_renewed(pki: ModuleType, ends: float, said: str) -> None:
    assert reasons(pki, FIRST.leaf(OWN, "db1", NAMES, ends=ends)) == [said]


def test_one_that_ends_with_its_ca_is_not_renewed_over_and_over(pki: ModuleType) -> None:
    old = Authority("old", ends=10)
    assert reasons(pki, old.leaf(OWN, "db1", NAMES, ends=10), ca=old) == []
    assert reasons(pki, old.leaf(OWN, "db1", NAMES, ends=9), ca=old) == ["it ends in 8 days"]


def test_other_names_another_key_another_ca_are_reasons(pki: ModuleType) -> None:
    assert reasons(pki, FIRST.leaf(OWN, "db1", NAMES[:-1])) == ["it has other names"]
    assert reasons(pki, FIRST.leaf(OWN, "db2", NAMES)) == ["it has other names"]
    assert reasons(pki, FIRST.leaf(key(), "db1", NAMES)) == ["it belongs to another key"]
    assert reasons(pki, SECOND.leaf(OWN, "db1", NAMES)) == ["another CA signed it"]


def test_a_ca_of_the_same_name_is_another_ca(pki: ModuleType) -> None:
    impostor = Authority("first")
    assert reasons(pki, impostor.leaf(OWN, "db1", NAMES)) == ["another CA signed it"]


@pytest.mark.parametrize("pem", ["", "garbage", FIRST.pem[:200]])
def test_none_is_a_reason(pki: ModuleType, pem: str) -> None:
    assert reasons(pki, pem) == ["it has none"]


def test_what_a_host_should_ask_for_is_signed(pki: ModuleType) -> None:
    assert pki.request_faults(REQUEST, "db1", list(NAMES)) == []
    assert pki.request_faults(request(OWN, "db1", NAMES[:2]), "db1", list(NAMES)) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"host": "db2"}, "it is about CN=db2,O=Backline"),
        ({"names": (*NAMES, "DNS:db2")}, "it asks for the names DNS:db2"),
        ({"names": (*NAMES, "IP:198.51.100.32")}, "it asks for the names IP:198.51.100.32"),
        ({"names": ("DNS:*",)}, "it asks for the names DNS:*"),
        ({"ca": True}, "it asks to be a CA"),
        ({"uses": ("digital_signature", "key_cert_sign")}, "it asks to sign others"),
        (
            {"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,)},
            "it asks for other purposes than TLS",
        ),
        ({"more": x509.OCSPNoCheck()}, "it asks for the extension 1.3.6.1.5.5.7.48.1.5"),
    ],
)
def test_a_host_gets_nothing_but_its_own_names(
    pki: ModuleType, asked: dict[str, Any], said: str
) -> None:
    made = request(OWN, **{"host": "db1", "names": NAMES, **asked})
    assert pki.request_faults(made, "db1", list(NAMES)) == [said]


def test_addresses_are_compared_as_addresses(pki: ModuleType) -> None:
    made = request(OWN, "db1", ("IP:2001:db8::1",))
    assert pki.request_faults(made, "db1", ["IP:2001:0db8:0:0::0001"]) == []


def test_a_certificate_never_outlives_its_ca(pki: ModuleType) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert pki.leaf_end(90, now + 1000 * 86400, now) == "20260401000000Z"
    assert pki.leaf_end(90, now + 10 * 86400, now) == "20260111000000Z"


def hosts(**bundles: str) -> dict[str, Any]:
    return {
        name: {"__pki_present": {"results": [{"content": base64.b64encode(text.encode())}, {}]}}
        for name, text in bundles.items()
    }


def test_who_trusts_a_ca_that_we_do_not_have_is_a_stranger(pki: ModuleType) -> None:
    """Also beside one that we have: then our folder is older than the fleet."""
    known = hosts(a=FIRST.pem, b=SECOND.pem, c=FIRST.pem + SECOND.pem, d="", e="torn")
    known["f"] = {"__pki_present": {"results": [{"failed": True}, {}]}}
    known["g"] = {}
    assert pki.strangers(known, list("abcdefg"), FIRST.pem) == ["b", "c"]
    assert pki.strangers(known, list("abcdefg"), FIRST.pem + SECOND.pem) == []
    assert pki.strangers(known, list("abcdefg"), "") == ["a", "b", "c"]


def test_it_is_told_by_its_name(pki: ModuleType) -> None:
    both = FIRST.pem + "comment\n" + SECOND.pem
    assert pki.unknown(both, FIRST.pem) == ["CN=second"]
    assert pki.unknown(both, "") == ["CN=first", "CN=second"]
