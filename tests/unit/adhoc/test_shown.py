"""What `fab run` shows and where to: a full disk, a terminal, an old encoding; a host key that is revoked."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from loop import Place, wait_for

from tests.terminal import Terminal


@pytest.mark.parametrize("how", ["--fold", "--stream", "--json"])
def test_output_that_is_lost_on_a_full_disk_is_an_error_and_the_command_was_run(
    place: Place, tmp_path: Path, how: str
) -> None:
    ran = tmp_path / "ran"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*place.argv, "run", f"echo said; echo x >> {ran}", "--on", "even", how],
            cwd=Path(__file__).parents[3],
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: could not write the output: No space left on device\n")
    assert ran.read_text() == "x\nx\n" and "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["--fold", "--diff", "--stream"])
def test_a_terminal_is_not_steered_by_what_hosts_say(place: Place, how: str) -> None:
    words = ["run", r"printf '\033[2Jevil\033]0;pwn\007\n'", "--on", "even", how]
    with Terminal([*place.argv, *words], place.environment, Path(__file__).parents[3]) as terminal:
        assert terminal.process.wait(60) == 0
        wait_for(lambda: "evil" in terminal.shown)
        assert r"\x1b[2Jevil\x1b]0;pwn\x07" in terminal.shown
        assert "\x1b[2J" not in terminal.shown and "\x1b]0;" not in terminal.shown
    assert "\x1b[2Jevil\x1b]0;pwn\x07\n" in place.fab(*words).stdout


@pytest.mark.parametrize("how", ["--fold", "--stream"])
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_characters_that_stdout_does_not_have_are_escapes(
    place: Place, how: str, encoding: str
) -> None:
    place = replace(place, environment={**place.environment, "PYTHONIOENCODING": encoding})
    done = place.fab("run", r"printf '\342\202\254 and on\n'", "--on", "h1", how)
    assert done.returncode == 0 and done.stdout.endswith("\\u20ac and on\n"), done.stderr


def test_a_revoked_host_key_is_refused_though_it_is_pinned(place: Place, tmp_path: Path) -> None:
    known = place.root / "inventory" / "loop" / "known_hosts"
    right = known.read_text()
    kind, key = right.split()[1:3]
    ours = sum(line.split()[2] == key for line in right.splitlines())
    name = right.split()[0]
    try:
        known.write_text(f"{right}@revoked {name} {kind} {key}\n")
        done = place.fab("run", f"echo x >> {tmp_path}/ran", "--on", "h1")
    finally:
        known.write_text(right)
    assert ours and done.returncode == 1 and not (tmp_path / "ran").exists()
    assert f"expected any but the revoked {kind} SHA256:" in done.stdout
    assert "── h1  1 host, unreachable (host_key_changed)" in done.stdout
