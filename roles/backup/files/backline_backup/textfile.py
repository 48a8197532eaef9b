"""Prometheus' text format, as the node exporter reads it from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Sample = tuple[str, Mapping[str, str], float]
"""Metric, labels, value."""


def render(samples: Iterable[Sample], told: Mapping[str, str]) -> str:
    """The samples of each metric in `told` (name → help), in its order; every sample has to be in it."""
    found = list(samples)
    unknown = {metric for metric, _, _ in found} - set(told)
    if unknown:
        raise KeyError(f"metrics without a help text: {', '.join(sorted(unknown))}")
    lines: list[str] = []
    for metric, text in told.items():
        own = [(labels, value) for name, labels, value in found if name == metric]
        if own:
            lines += [f"# HELP {metric} {text}", f"# TYPE {metric} {kind(metric)}"]
        lines += [line(metric, labels, value) for labels, value in own]
    return "\n".join(lines) + "\n"


def kind(metric: str) -> str:
    return "counter" if metric.endswith("_total") else "gauge"


def line(metric: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{name}="{escape(word)}"' for name, word in labels.items())
    return f"{metric}{{{inside}}} {value}" if inside else f"{metric} {value}"


def escape(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
