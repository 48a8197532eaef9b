"""Where hosts pull releases from: an HTTP(S) folder, or an S3 bucket by presigned addresses."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit

from backline.errors import BacklineError

LIFETIME = 3600
"""Seconds that a presigned address is good for."""


def addresses(origin: str, app: str, names: Iterable[str]) -> dict[str, str]:
    """The address of each file. `origin`: `https://host/folder`, or `s3://bucket/folder`.

    For S3 the keys are $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY; $AWS_ENDPOINT_URL and
    $AWS_REGION where they are not Amazon's and us-east-1. Raises BacklineError.
    """
    parts = urlsplit(origin)
    folder = f"{parts.path.rstrip('/')}/{app}"
    if parts.scheme in ("http", "https") and parts.netloc:
        return {name: f"{parts.scheme}://{parts.netloc}{folder}/{quote(name)}" for name in names}
    if parts.scheme == "s3" and parts.netloc:
        now = datetime.datetime.now(datetime.UTC)
        return {
            name: presign(os.environ, parts.netloc, f"{folder}/{name}".lstrip("/"), now)
            for name in names
        }
    raise BacklineError(
        f"rollout_origin is no address: {origin}",
        state="nothing was changed",
        hint="for example https://releases.example.com/app or s3://bucket/folder",
    )


def presign(
    known: Mapping[str, str], bucket: str, key: str, now: datetime.datetime, method: str = "GET"
) -> str:
    """An address that lets its holder fetch one object for an hour: AWS Signature Version 4, by
    query, as in Amazon's "Authenticating Requests: Using Query Parameters"."""
    identity, secret = known.get("AWS_ACCESS_KEY_ID"), known.get("AWS_SECRET_ACCESS_KEY")
    if not identity or not secret:
        raise BacklineError(
            "rollout_origin is an S3 bucket, and there are no keys for it",
            state="nothing was changed",
            hint="set $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY",
        )
    region = known.get("AWS_REGION") or "us-east-1"
    endpoint = urlsplit(known.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com")
    path = f"{endpoint.path.rstrip('/')}/{bucket}/{quote(key)}"
    day, moment = f"{now:%Y%m%d}", f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{day}/{region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{identity}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(LIFETIME),
        "X-Amz-SignedHeaders": "host",
    }
    if known.get("AWS_SESSION_TOKEN"):
        query["X-Amz-Security-Token"] = known["AWS_SESSION_TOKEN"]
    text = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items()))
    request = f"{method}\n{path}\n{text}\nhost:{endpoint.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    words = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signing = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, words.encode(), hashlib.sha256).hexdigest()
    return f"{endpoint.scheme}://{endpoint.netloc}{path}?{text}&X-Amz-Signature={signature}"
