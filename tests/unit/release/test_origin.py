"""Presigned addresses, held against a second implementation that gives Amazon's own example."""

from __future__ import annotations

import datetime
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from backline.errors import BacklineError
from backline.release import origin

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
NOW = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)


def signature(address: str, secret: str, region: str) -> str:
    """Signature Version 4 of a GET by query, from Amazon's description, step by step."""
    parts = urlsplit(address)
    query = [(k, v) for k, v in parse_qsl(parts.query) if k != "X-Amz-Signature"]
    known = dict(query)
    encoded = sorted(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in query)
    lines = ["GET", parts.path, "&".join(encoded), f"host:{parts.netloc}", "", "host"]
    canonical = "\n".join([*lines, "UNSIGNED-PAYLOAD"])
    day = known["X-Amz-Date"][:8]
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            known["X-Amz-Date"],
            f"{day}/{region}/s3/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )

    def mac(key: bytes, words: str) -> bytes:
        return hmac.new(key, words.encode(), hashlib.sha256).digest()

    key = mac(mac(mac(mac(f"AWS4{secret}".encode(), day), region), "s3"), "aws4_request")
    return mac(key, text).hex()


def test_the_second_implementation_gives_amazons_published_example() -> None:
    address = (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    )
    wanted = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert signature(address, KEYS["AWS_SECRET_ACCESS_KEY"], "us-east-1") == wanted


@pytest.mark.parametrize(
    ("more", "starts", "region"),
    [
        ({}, "https://s3.us-east-1.amazonaws.com/bucket/app/", "us-east-1"),
        ({"AWS_REGION": ""}, "https://s3.us-east-1.amazonaws.com/bucket/app/", "us-east-1"),
        ({"AWS_REGION": "eu-central-1"}, "https://s3.eu-central-1.amazonaws.com/b", "eu-central-1"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/bucket/app/", "us-east-1"),
        ({"AWS_SESSION_TOKEN": "a/b+c=="}, "https://s3.us-east-1", "us-east-1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["r-1.tar.zst", "a b+c~d.patch"])
def test_hosts_may_fetch_what_was_signed(
    more: dict[str, str], starts: str, region: str, name: str
) -> None:
    address = origin.presign({**KEYS, **more}, "bucket", f"app/{name}", NOW)
    found = dict(parse_qsl(urlsplit(address).query))
    assert address.startswith(starts)
    assert urlsplit(address).path == f"/bucket/app/{quote(name)}"
    assert found["X-Amz-Expires"] == "3600" and found["X-Amz-Date"] == "20130524T000000Z"
    assert found["X-Amz-Signature"] == signature(address, KEYS["AWS_SECRET_ACCESS_KEY"], region)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in address


def test_a_folder_on_a_web_server() -> None:
    found = origin.addresses("https://releases.example.com/all/", "jukebox", ["a b.zst"])
    assert found == {"a b.zst": "https://releases.example.com/all/jukebox/a%20b.zst"}


def test_a_bucket_without_keys_and_no_address_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(BacklineError, match="no keys for it"):
        origin.addresses("s3://bucket/folder", "jukebox", ["a"])
    with pytest.raises(BacklineError, match="no address: releases"):
        origin.addresses("releases", "jukebox", ["a"])
