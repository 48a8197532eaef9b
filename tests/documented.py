"""The commands that a page shows, as a reader would type them."""

from __future__ import annotations

import re

from backline.tasks.steps import ROOT


def commands(page: str, section: str = "") -> list[str]:
    """The commands of the page's console blocks, each as one line; of one section if it is named."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if section:
        parts = re.split(r"^## ", text, flags=re.M)
        text = next(part for part in parts if part.startswith(section))
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        re.sub(r"\s+", " ", re.sub(r"\s# .*", "", line[2:])).strip()
        for line in lines
        if line.startswith("$ ")
    ]
