"""A cover for every song, drawn from its name: the same on every host, no picture to store."""

from __future__ import annotations

import hashlib
import math

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


def draw(slug: str) -> SafeString:
    """An SVG of 200 by 200."""
    digest = hashlib.sha256(slug.encode()).digest()
    hue = digest[29] * 360 // 256
    return format_html(
        '<svg class="cover" viewBox="0 0 200 200" aria-hidden="true" focusable="false">'
        '<defs><linearGradient id="g-{0}" x1="0" y1="0" x2="1" y2="1">'
        '<stop offset="0" stop-color="hsl({1} 62% 46%)"/>'
        '<stop offset="1" stop-color="hsl({2} 68% 24%)"/></linearGradient></defs>'
        '<rect width="200" height="200" fill="url(#g-{0})"/>{3}</svg>',
        slug,
        hue,
        (hue + 50) % 360,
        (_waves, _rays, _discs)[digest[31] % 3](digest),
    )


def _waves(digest: bytes) -> SafeString:
    lines = []
    for row in range(9):
        swing = 6 + digest[row + 2] % 22
        y = 24 + row * 19
        lines.append((f"M-10 {y}q30 {-swing} 55 0t55 0t55 0t55 0", f"{0.2 + row * 0.07:.2f}"))
    return format_html_join(
        "", '<path d="{}" fill="none" stroke="#fff" stroke-width="5" opacity="{}"/>', lines
    )


def _rays(digest: bytes) -> SafeString:
    count = 9 + digest[2] % 6
    rays = []
    for ray in range(count):
        at, wide = 2 * math.pi * ray / count, 0.12 + digest[3 + ray] % 10 / 70
        points = [(100, 128)] + [
            (100 + 190 * math.cos(at + side), 128 + 190 * math.sin(at + side))
            for side in (-wide, wide)
        ]
        shown = 0.1 + digest[ray] % 30 / 100
        rays.append((" ".join(f"{x:.1f},{y:.1f}" for x, y in points), f"{shown:.2f}"))
    return format_html(
        '{}<circle cx="100" cy="128" r="34" fill="#fff" opacity=".9"/>',
        format_html_join("", '<polygon points="{}" fill="#fff" opacity="{}"/>', rays),
    )


def _discs(digest: bytes) -> SafeString:
    discs = [
        (30 + digest[n + 2] * 140 // 255, 30 + digest[n + 9] * 140 // 255, 18 + digest[n + 16] % 44)
        for n in range(6)
    ]
    return format_html_join(
        "",
        '<circle cx="{0}" cy="{1}" r="{2}" fill="none" stroke="#fff" stroke-width="9"'
        ' opacity=".38"/>',
        discs,
    )
