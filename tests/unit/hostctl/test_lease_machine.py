"""Any order of runs, clocks and reboots: never two holders, never an older token accepted."""

from __future__ import annotations

import atexit
import shutil
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from .fake_host import Lab, make_key, short_folder

RUNS = ("run-a", "run-b", "run-c")
KEY = make_key(short_folder() / "release")
atexit.register(shutil.rmtree, KEY.parent)


class LeaseMachine(RuleBasedStateMachine):
    """Three controllers that know different tokens, and a host whose clocks misbehave."""

    def __init__(self) -> None:
        super().__init__()
        self.root = short_folder()
        self.lab = Lab(self.root, {"release": KEY})
        self.accepted = 0  # the highest token of any accepted request
        self.holder: str | None = None  # who was last granted the lease
        self.granted_until = 0.0  # on a clock that nobody can set
        self.true_time = 0.0
        self.drained = False

    def send(self, verb: str, run: str, token: int, **fields: Any) -> bool:
        status, answer = (
            self.lab.call(verb, run=run, token=token, holder=run, **fields)
            if verb == "lease"
            else self.lab.call(verb, run=run, token=token, **fields)
        )
        assert status in (0, 5, 6), answer
        if status == 0:
            assert token >= self.accepted, "an older token was accepted"
            self.accepted = max(self.accepted, token)
        return status == 0

    @rule(run=st.sampled_from(RUNS), token=st.integers(1, 12), lifetime=st.integers(1, 60))
    def take(self, run: str, token: int, lifetime: int) -> None:
        before = self.lab.ok("lease", action="show")
        if self.send("lease", run, token, action="take", lifetime=lifetime):
            free = before["lease"] is None or before["lease"]["run"] == run
            assert free, "a live lease of another run was taken over"
            renewed = before["lease"] and before["lease"]["token"] == token
            assert renewed or token > before["fence"]
            self.holder, self.granted_until = run, self.true_time + lifetime

    @rule(run=st.sampled_from(RUNS), token=st.integers(1, 12), lifetime=st.integers(1, 60))
    def renew(self, run: str, token: int, lifetime: int) -> None:
        if self.send("lease", run, token, action="renew", lifetime=lifetime):
            assert self.holder == run
            self.granted_until = self.true_time + lifetime

    @rule(run=st.sampled_from(RUNS), token=st.integers(1, 12))
    def release(self, run: str, token: int) -> None:
        held = self.lab.ok("lease", action="show")["lease"]
        if held is None:
            return  # releasing nothing is harmless, whatever the token
        if self.send("lease", run, token, action="release"):
            assert held["run"] == run
            self.holder = None

    @rule(
        run=st.sampled_from(RUNS), token=st.integers(1, 12), action=st.sampled_from(["on", "off"])
    )
    def change(self, run: str, token: int, action: str) -> None:
        if self.send("drain", run, token, action=action):
            assert self.holder == run, "a change by a run that is not the holder"
            self.drained = action == "on"

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self.lab.clock.sleep(seconds)
        self.true_time += seconds

    @rule(seconds=st.floats(-1e6, 1e6))
    def clock_is_set(self, seconds: float) -> None:
        self.lab.clock.wall += seconds

    @rule()
    def host_reboots(self) -> None:
        self.lab.clock.reboot()

    @rule(name=st.sampled_from(["lease.json", "fence", "state.json"]))
    def a_temporary_file_was_left(self, name: str) -> None:
        folder = self.root / "var/lib/backline/jukebox"
        if folder.is_dir():
            (folder / f".{name}.tmp").write_text("torn")

    @invariant()
    def nothing_happens_unasked(self) -> None:
        assert (self.root / "run/backline/drain").exists() == self.drained
        shown = self.lab.ok("lease", action="show")
        assert shown["fence"] == self.accepted
        if shown["lease"]:
            assert shown["lease"]["run"] == self.holder
            assert shown["lease"]["token"] == shown["fence"]

    def teardown(self) -> None:
        shutil.rmtree(self.root)


LeaseMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLease = LeaseMachine.TestCase
