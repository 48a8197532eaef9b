"""`inv demo`: the whole of Backline in one command."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.command import command, say
from backline.tasks.steps import BIN, ROOT, environment

if TYPE_CHECKING:
    from backline.lab.listener import Tally

ENV = "lab"


@command()
def demo(c: Context) -> None:
    """Build a fleet, deploy to it, deploy again while listeners listen, and play a song."""
    started = time.monotonic()
    _show(BIN / "inv", "lab.up", "--env", ENV)
    _show(BIN / "fab", "provision", "--env", ENV)
    first = _release("1.0.0")
    _show(BIN / "fab", "deploy", "--env", ENV, "--release", first, "--message", "demo: the first")

    second = _release("1.1.0")
    place = _Place.of_the_lab()
    tally = _deploy_while_they_listen(second, place)
    _tell(tally, {first: "1.0.0", second: "1.1.0"}, time.monotonic() - started)
    _play(place)
    if tally.failed or second not in tally.releases:
        raise BacklineError(
            f"{tally.failed} of {tally.requests} requests failed during the second deploy",
            hint="fab status --env lab; inv lab.ssh edge1 --command 'sudo journalctl -u haproxy'",
        )


@dataclass(frozen=True)
class _Place:
    """Where listeners find the lab, and a song of its library. `cookies`: somebody is signed in."""

    base: str
    ca: Path
    cookies: Path
    song: str
    sha256: str

    @classmethod
    def of_the_lab(cls) -> _Place:
        from backline.lab import files

        edge = next(host for host in files.require(ENV).topology().hosts if "https" in host.ports)
        catalogue = (ROOT / "examples/jukebox/catalogue.json").read_text(encoding="utf-8")
        track = json.loads(catalogue)[0]
        return cls(
            base=f"https://localhost:{edge.ports['https'][0]}",
            ca=files.INVENTORY / ENV / "edge-ca.pem",
            cookies=files.folder(ENV) / "cookies.txt",
            song=f"/tracks/{track['slug']}/stream",
            sha256=track["sha256"],
        )


def _deploy_while_they_listen(release: str, place: _Place) -> Tally:
    """Signs somebody up, deploys amid a crowd's requests, and says what became of these."""
    from backline.lab.listener import Crowd, Listener

    listener = Listener(place.base, place.ca)
    who = listener.sign_up()
    listener.save_cookies(place.cookies)
    say(f"{who} signed in; a crowd keeps asking {place.base} while release 1.1.0 goes out")
    crowd = Crowd(listener, place.song).start()
    try:
        time.sleep(2)
        _show(BIN / "fab", "deploy", "--env", ENV, "--release", release, "--message", "demo: again")
        time.sleep(2)
    finally:
        tally = crowd.stop()
    return tally


def _tell(tally: Tally, versions: dict[str, str], seconds: float) -> None:
    print(f"\nserved      {tally.requests} requests, {tally.song_bytes / 2**20:.1f} MiB of music")
    for release, count in sorted(tally.releases.items()):
        print(f"answered    {count:5} times by {release} ({versions.get(release, '?')})")
    print(f"failed      {tally.failed}")
    for problem, count in tally.failures.most_common(5):
        print(f"            {count} x {problem}")
    print(f"slowest     {tally.slowest_ms:.0f} ms")
    print(f"took        {seconds:.0f} s")


def _play(place: _Place) -> None:
    """Plays a song as the reader may, and says how. Raises BacklineError when a byte is wrong."""
    ca, cookies = (str(path.relative_to(ROOT)) for path in (place.ca, place.cookies))
    play = [
        *("curl", "--silent", "--show-error", "--fail"),
        *("--cacert", ca, "--cookie", cookies),
        *(place.base + place.song, "--output", ".lab/song.wav"),
    ]
    whole = _plays(play, place.sha256)
    print(
        f"\nplay a song (tried just now: {'every byte is right' if whole else 'IT FAILED'}):\n"
        f"  {' '.join(play[:4])} \\\n    {' '.join(play[4:8])} \\\n    {' '.join(play[8:])}\n"
        f"or sign up at {place.base} in a browser (its certificate is signed by the lab's own CA)\n"
        "then: . .venv/bin/activate; fab status --env lab; fab --list; inv lab.down"
    )
    if not whole:
        raise BacklineError("the song did not arrive as it is in the library", hint="see above")


def _show(*words: str | Path) -> None:
    """Runs a command as a person would type it, in sight."""
    line = " ".join([Path(words[0]).name, *map(str, words[1:])])
    print(f"\n$ {line}", flush=True)
    quieter = environment({"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "False"})
    done = subprocess.run([str(word) for word in words], cwd=ROOT, env=quieter, check=False)
    if done.returncode != 0:
        raise BacklineError(
            f"`{line}` ended with exit code {done.returncode}",
            hint="see above; `make demo` goes on from here",
        )


def _release(version: str) -> str:
    """Builds a release of the sample application; returns its ID."""
    words = ["inv", "release.build", "examples/jukebox", "--version", version, "--json"]
    print(f"\n$ {' '.join(words)}", flush=True)
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BacklineError("the release could not be built", hint="see above")
    release = str(json.loads(done.stdout.strip().splitlines()[-1])["id"])
    print(release)
    return release


def _plays(words: list[str], sha256: str) -> bool:
    """Whether curl fetches the song byte for byte."""
    done = subprocess.run(words, cwd=ROOT, check=False)
    song = ROOT / words[-1]
    return done.returncode == 0 and hashlib.sha256(song.read_bytes()).hexdigest() == sha256
