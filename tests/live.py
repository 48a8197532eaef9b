"""What tests on a live fleet share: commands as a person types them, and the fleet as they see it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backline.lab import files
from backline.lab.listener import Crowd, Listener
from backline.lab.topology import LabHost
from backline.tasks.steps import ROOT, environment, mitogen

BIN = Path(sys.executable).parent
CATALOGUE = json.loads((ROOT / "examples/jukebox/catalogue.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Answer:
    """How a command ended: exit code, what it printed on stdout and on stderr."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it printed."""
        return self.out + self.err

    @property
    def last(self) -> Any:
        """The last line of stdout as JSON."""
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def lines(self) -> list[Any]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.out.strip().splitlines()]


def run(
    *words: str, expect: int | None = 0, fast: bool = False, timeout: float = 1200, **variables: str
) -> Answer:
    """Runs a command of the virtual environment; `fast` lets Ansible use mitogen.

    `variables` are added to its environment.
    """
    own = {"ANSIBLE_FORCE_COLOR": "0", **(mitogen() if fast else {}), **variables}
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=ROOT,
        env=environment(own),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )
    answer = Answer(done.returncode, done.stdout, done.stderr)
    if expect is not None:
        assert answer.code == expect, f"{words}\n{answer.out[-4000:]}\n{answer.err[-4000:]}"
    return answer


def build(version: str) -> str:
    """Builds a release of the sample application; returns its ID."""
    answer = run("inv", "release.build", "examples/jukebox", "--version", version, "--json")
    return str(answer.last["id"])


@dataclass(frozen=True)
class Fleet:
    """A lab that is up, as the tests see it."""

    env: str

    @property
    def folder(self) -> Path:
        """Where the lab keeps its keys."""
        return files.folder(self.env)

    @property
    def ca(self) -> Path:
        """The CA of the edge's certificate."""
        return files.INVENTORY / self.env / "edge-ca.pem"

    @property
    def base(self) -> str:
        """Where listeners of this machine reach the first edge."""
        edge = next(host for host in self.topology if "https" in host.ports)
        return f"https://localhost:{edge.ports['https'][0]}"

    @property
    def topology(self) -> tuple[LabHost, ...]:
        """Every host with its address, ports and groups."""
        return files.require(self.env).topology().hosts

    def hosts(self, group: str) -> list[str]:
        """The names of a group's hosts."""
        return [host.name for host in self.topology if group in host.groups]

    def address(self, host: str) -> str:
        """A host's address inside the fleet."""
        return next(entry.address for entry in self.topology if entry.name == host)

    def container(self, host: str) -> str:
        """What podman calls a host."""
        return files.require(self.env).topology().container(host)

    def leave_out(self, *hosts: str) -> None:
        """Takes hosts out of the inventory, and their keys out of known_hosts, as if nobody had made them."""
        place = files.INVENTORY / self.env
        inventory = yaml.safe_load((place / "hosts.yml").read_text(encoding="utf-8"))
        everywhere = [inventory["all"], *inventory["all"]["children"].values()]
        for group in everywhere:
            for host in hosts:
                group["hosts"].pop(host, None)
        children = inventory["all"]["children"]
        inventory["all"]["children"] = {name: g for name, g in children.items() if g["hosts"]}
        text = yaml.safe_dump(inventory, sort_keys=False)
        (place / "hosts.yml").write_text(text, encoding="utf-8")
        gone = {f"[127.0.0.1]:{host.ssh_port}" for host in self.topology if host.name in hosts}
        lines = (place / "known_hosts").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.partition(" ")[0] not in gone]
        (place / "known_hosts").write_text("".join(kept), encoding="utf-8")

    def listener(self) -> Listener:
        """A listener who has just signed up."""
        listener = Listener(self.base, self.ca)
        listener.sign_up()
        return listener

    def crowd(self, listener: Listener, **options: Any) -> Crowd:
        """Open-loop requests through the edge, started; `stop()` tells what they saw."""
        return Crowd(listener, f"/tracks/{CATALOGUE[0]['slug']}/stream", **options).start()

    def on(self, host: str, command: str, expect: int | None = 0) -> Answer:
        """Runs a shell command on one host as its administrator."""
        return run("inv", "lab.ssh", host, "--env", self.env, "--command", command, expect=expect)

    def playbook(
        self, name: str, *more: str, expect: int | None = 0, timeout: float = 1800
    ) -> Answer:
        """Runs playbooks/NAME.yml on the fleet."""
        words = ("ansible-playbook", "-i", f"inventory/{self.env}", f"playbooks/{name}.yml", *more)
        return run(*words, expect=expect, fast=True, timeout=timeout)
