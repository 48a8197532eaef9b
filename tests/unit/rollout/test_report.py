"""A run's report: what it says is what the journal and the probe say, on any screen, from one file."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_runs import (
    HOSTS,
    NEW,
    OLD,
    START,
    bad_run,
    batch,
    begun,
    ended,
    good_run,
    lease,
    plan,
    turn,
)

from backline.rollout import axis as axes
from backline.rollout import changes, timeline, traffic
from backline.rollout.report import Report, assemble
from backline.rollout.sample import Sample
from backline.tasks.report import render

CHROMIUM = shutil.which("chromium")
NASTY = "<script>alert('x')</script><img src=\"http://evil.example/x.png\">"
DOCUMENTS = {
    OLD: {"version": "1.0", "files": {"app/a.py": {"size": 10, "sha256": "1"}}},
    NEW: {
        "version": "2.0",
        "archive": {"zst_size": 14_000_000},
        "files": {"app/a.py": {"size": 12, "sha256": "2"}, "app/b.py": {"size": 5, "sha256": "3"}},
    },
}


def traffic_of(seconds: int = 15, switch: float = 8.0, bad: int = 0) -> list[Sample]:
    """Ten requests a second; the last `bad` of them fail."""
    count = seconds * 10
    return [
        Sample(
            at=START + n / 10,
            ms=20.0 if n / 10 < switch else 10.0,
            status=502 if n >= count - bad else 200,
            error=None,
            release=OLD if n / 10 < switch else NEW,
            path="/",
        )
        for n in range(count)
    ]


def made(events: list[dict[str, Any]], samples: list[Sample] | None = None) -> Report:
    return assemble("stage", events, traffic_of() if samples is None else samples, DOCUMENTS)


def test_the_head_says_who_what_why_and_how_it_ended() -> None:
    head = made(good_run()).head
    assert (head["before"], head["release"], head["message"], head["plan"]) == (
        [OLD],
        NEW,
        "why",
        "abc123",
    )
    assert head["ended"]["words"] == "Done" and head["seconds"] == 15.0
    bad = made(bad_run()).head["ended"]
    assert (bad["words"], bad["exit_code"], bad["tone"]) == ("Rolled back", 4, "bad")
    assert "all hosts run it" in bad["state"]
    assert made(good_run()[:-1]).head["ended"]["words"] == "Not finished"


def test_the_summary_counts_what_travelled_against_the_whole() -> None:
    summary = made(good_run(), traffic_of(bad=3)).summary
    assert (summary["shipped_bytes"], summary["whole_bytes"]) == (10_000, 28_000_000)
    assert (summary["requests"], summary["failed_requests"]) == (150, 3)
    assert (summary["batches_begun"], summary["batches"], summary["failed_hosts"]) == (2, 2, 0)


def test_each_host_has_its_bars_and_a_failure_its_words() -> None:
    first, second = made(good_run()).rows
    assert (first.host, [bar.kind for bar in first.bars]) == (
        "stream1",
        ["ship", "start", "check", "switch"],
    )
    assert first.bars[1].width == pytest.approx(100 / 15, abs=0.01)
    assert min(bar.left for bar in second.bars) > max(bar.left for bar in first.bars)
    failed, _ = made(bad_run("it smokes")).rows
    assert failed.failed and failed.note == "check: it smokes"
    assert [bar.failed for bar in failed.bars] == [False, False, True]


def test_a_failure_is_told_once_although_the_journal_warns_of_it_too() -> None:
    assert [n["kind"] for n in made(bad_run("it smokes")).notices] == ["failed"]


def test_batches_carry_their_verdicts() -> None:
    first, second = made(good_run()).batches
    assert (first["hosts"], first["seconds"], first["verdict"]["well"]) == (["stream1"], 6.0, True)
    assert second["seconds"] == 6.0
    assert made(bad_run()).batches[0]["verdict"] is None


def test_a_run_gone_on_with_hours_later_has_a_break_not_an_empty_page() -> None:
    later = 7200.0
    events = [begun(), lease(), *turn("stream1", 1)]
    events += [begun(later, "resume"), lease(later + 1, 2), *turn("stream2", later + 2)]
    found = made([*events, ended(later + 10)])
    assert found.axis.seconds == pytest.approx(13.5) and len(found.axis.breaks) == 1
    assert len(found.head["sittings"]) == 2
    widths = [bar.width for row in found.rows for bar in row.bars if bar.kind == "start"]
    assert widths[0] == pytest.approx(widths[1], rel=0.01) and widths[0] > 5


def test_what_a_dead_controller_had_begun_is_not_joined_to_what_came_later() -> None:
    step = {"host": "stream1", "process": "web", "release": NEW}
    cut = [begun(), {"event": "begin", "time": START + 1, **step, "text": "start"}]
    late = {"event": "start", "time": START + 101, **step}
    axis = axes.of((str(e["event"]), float(e["time"])) for e in [*cut, begun(100), late])
    (row,) = timeline.rows([*cut, begun(100), late], ["stream1"], axis)
    assert row.bars[0].width == 0.0


def test_requests_are_counted_by_second_and_release() -> None:
    found = made(good_run(), traffic_of(seconds=12, switch=8.5, bad=2))
    assert sum(bucket.requests for bucket in found.buckets) == 120
    eighth = found.buckets[8].as_data()
    assert {r: v["requests"] for r, v in eighth["releases"].items()} == {OLD: 5, NEW: 5}
    assert eighth["releases"][OLD]["p50_ms"] == 20.0
    assert found.buckets[-1].failed == 2 and found.failures == [(2, "/: 502")]
    assert found.charts is not None
    assert {block.kind for block in found.charts.blocks} == {"old", "new", "failed"}
    assert all(b.bottom >= 0 and b.bottom + b.height <= 102 for b in found.charts.blocks)


def test_a_long_run_has_wider_buckets_and_loses_no_request() -> None:
    axis = axes.Axis([(START, START + 7200)])
    width = traffic.bucket_width(axis)
    samples = [dataclasses.replace(traffic_of(1)[0], at=START + n) for n in range(7200)]
    found = traffic.buckets(samples, START, width)
    assert width == 30 and len(found) <= traffic.BUCKETS
    assert sum(bucket.requests for bucket in found) == 7200


def test_one_failed_request_of_thousands_can_be_seen() -> None:
    samples = traffic_of(15) * 40
    samples[300] = dataclasses.replace(samples[300], status=500)
    charts = made(good_run(), samples).charts
    assert charts is not None
    (failed,) = [block for block in charts.blocks if block.kind == "failed"]
    assert failed.height >= 2.0


def test_what_changed_is_told_by_file_and_package() -> None:
    wheel = "wheelhouse/{}-py3-none-any.whl"
    before = {"files": {wheel.format("celery-5.6.0"): {}, wheel.format("amqp-5.4.2"): {}}}
    after = {
        "files": {wheel.format("celery-5.7.0"): {}, wheel.format("amqp-5.4.2"): {}},
        "migrations": {"expand": [["manage.py", "migrate"]]},
    }
    found = changes.between(before, after)
    assert [(c.what, c.before, c.after) for c in found.packages] == [("celery", "5.6.0", "5.7.0")]
    assert [(c.what, c.kind) for c in found.facts] == [("migrations: expand", "added")]
    between = made(good_run()).changes
    assert between is not None
    assert [(c.what, c.kind, c.after) for c in between.files] == [
        ("app/a.py", "changed", "12 B (+2 B)"),
        ("app/b.py", "added", "5 B"),
    ]
    assert made(good_run()).missing == []
    gone = assemble("stage", good_run(), [], {})
    assert gone.changes is None and gone.missing == [OLD, NEW]


def test_a_journal_without_a_run_is_refused() -> None:
    with pytest.raises(ValueError, match="no run"):
        made([lease()])


@pytest.mark.parametrize("cut", range(1, len(good_run())))
def test_a_run_cut_off_anywhere_has_a_report(cut: int) -> None:
    events = good_run()[:cut]
    assert "Not finished" in page(made(events), events)


def test_of_thousands_of_hosts_those_that_failed_are_shown() -> None:
    hosts = [f"h{number}" for number in range(2000)]
    batches = [hosts[n : n + 20] for n in range(0, 2000, 20)]
    events = [begun(plan={**plan(hosts), "batches": batches}), lease()]
    for number, members in enumerate(batches, start=1):
        events.append(batch(number, number, members))
        for host in members:
            events += turn(host, number, fails="it smokes" if host == "h1999" else "")
    found = made([*events, ended(200)])
    assert (len(found.rows), found.hidden) == (timeline.MOST, 2000 - timeline.MOST)
    assert found.rows[-1].host == "h1999" and found.summary["hosts"] == 2000
    assert len(page(found, events)) < 3_000_000


# The page.


def page(found: Report, events: list[dict[str, Any]]) -> str:
    return render(found, [{"seq": n, **event} for n, event in enumerate(events, start=1)])


def long_run() -> tuple[Report, list[dict[str, Any]]]:
    """Hosts with long names, an error without spaces, and one that is a whole log."""
    hosts = [f"streaming-{n}.zone-a.production.example.net" for n in range(40)]
    events = [begun(plan={**plan(hosts), "batches": [hosts[:1], hosts[1:]]}), lease()]
    for host in hosts:
        events += turn(host, 1)
    events += turn(HOSTS[0], 4, fails="x" * 400)
    hint = "its log ends: " + "y" * 3000
    events.append(ended(20, 4, text="z" * 300, state="rolled back", hint=hint))
    return made(events), events


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    text = page(made(good_run()), good_run())
    assert not re.search(r"""(src|href|url|@import|action)\s*[=(]""", text)
    assert "http://" not in text and "https://" not in text and "<script" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_what_hosts_and_people_say_is_escaped() -> None:
    events = [begun(message=NASTY), lease(), *turn("stream1", 1, fails=NASTY)]
    events += [{"event": "warning", "time": START + 3, "host": NASTY, "text": NASTY}]
    events += [ended(6, 4, text=NASTY, state=NASTY, hint=NASTY)]
    samples = [dataclasses.replace(s, path=NASTY, release=NASTY) for s in traffic_of(5, bad=5)]
    text = page(made(events, samples), events)
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;" in text


def browser(address: str, folder: Path, *flags: str) -> str:
    """What chromium makes of a page; no window, no network needed."""
    assert CHROMIUM
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            # The browser's own errands (dictionaries, updates) lead nowhere.
            *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={folder / 'profile'}", *flags, address),
        ],
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


MEASURE = """
  const seen = frame => {
    const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
    const all = [...page.body.querySelectorAll('*')];
    const boxed = e => e.closest('.wide, pre, svg, .strip, .ticks, .plot');
    const out = all.filter(e => e.getBoundingClientRect().right > root.clientWidth + 1 && !boxed(e));
    const words = all.filter(e => e.children.length == 0);
    return {scroll: root.scrollWidth, width: root.clientWidth, heading: page.querySelector('h1').innerText,
      out: out.map(e => e.className || e.tagName),
      font: Math.min(...words.map(e => parseFloat(view.getComputedStyle(e).fontSize)))};
  };
  onload = () => document.title = JSON.stringify([...document.querySelectorAll('iframe')].map(seen));
"""


def measured(text: str, widths: tuple[int, ...], folder: Path) -> list[dict[str, Any]]:
    """The page in frames so many pixels wide: what it says, and what sticks out of each."""
    style = "border:0;height:900px;width"
    frames = "".join(
        f'<iframe style="{style}:{width}px" srcdoc="{html.escape(text)}"></iframe>'
        for width in widths
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!doctype html><title></title><script>{MEASURE}</script>{frames}")
    dom = browser(wrapper.as_uri(), folder, "--dump-dom", "--virtual-time-budget=3000")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title
    found: list[dict[str, Any]] = json.loads(html.unescape(title[1]))
    return found


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
@pytest.mark.parametrize("run", ["good", "long"])
def test_a_browser_shows_it_without_sideways_scrolling(run: str, tmp_path: Path) -> None:
    found, events = (made(good_run()), good_run()) if run == "good" else long_run()
    widths = (360, 1280)
    for width, seen in zip(widths, measured(page(found, events), widths, tmp_path), strict=True):
        assert seen["scroll"] <= seen["width"] and seen["out"] == []
        assert seen["width"] > width - 20
        assert seen["font"] >= 10.5  # pixels: small, and still read on a phone
        assert seen["heading"].startswith("Done" if run == "good" else "Rolled back")


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
def test_a_browser_paints_it_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    events = [*bad_run(NASTY)[:-1], ended(6, 4, text=NASTY)]
    target = tmp_path / "report.html"
    target.write_text(page(made(events), events))
    shots = []
    for scheme in ("dark", "light"):
        shot, log = tmp_path / f"{scheme}.png", tmp_path / f"{scheme}.json"
        browser(
            target.as_uri(),
            tmp_path,
            *(f"--screenshot={shot}", "--window-size=1280,1600", f"--log-net-log={log}"),
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        )
        assert target.name in log.read_text() and "evil.example" not in log.read_text()
        shots.append(shot.read_bytes())
    assert min(map(len, shots)) > 20_000 and shots[0] != shots[1]


def test_no_minute_of_the_axis_has_sixty_seconds() -> None:
    found = [axes._label(seconds) for seconds in (12.4, 59.6, 119.7, 3599.8)]
    assert found == ["12 s", "1:00", "2:00", "1:00 h"]
