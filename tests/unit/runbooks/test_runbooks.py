"""Whoever is woken by an alert finds its page, and on the page what to do with commands that exist."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import documented, reading
from tests.live import Answer
from tests.runbooks import (
    EMERGENCIES,
    FOLDER,
    INDEX,
    LOOKS,
    PAGES,
    STAND_INS,
    chosen,
    looks,
    parts,
    sections,
    stand_in,
    typed,
)

ROOT = Path(__file__).parents[3]
LIVE = [
    importlib.import_module(f"tests.chaos.{path.stem}")
    for path in (ROOT / "tests/chaos").glob("test_emergenc*.py")
]
RULES = sorted((ROOT / "roles/monitor/files/rules").glob("*.yml"))
SECTIONS = [
    "What it means",
    "What listeners hear",
    "First look",
    "Likely causes",
    "Mend",
    "It is over when",
]


def alerts() -> dict[str, dict[str, Any]]:
    groups = [g for path in RULES for g in yaml.safe_load(path.read_text())["groups"]]
    return {r["alert"]: r for group in groups for r in group["rules"] if "alert" in r}


ALERTS = alerts()
OF_NO_HOST = {
    # Releases differ between hosts, queues have copies on several, and the watchdog is about the whole.
    "ReleasesDiffer", "QueueGrowing", "DeadLetters", "Watchdog",
    # A cluster's, whoever of its members tells.
    "NoPrimary", "TwoPrimaries", "NoSynchronousReplica", "PatroniPaused", "PatroniFailsafe",
    "EtcdWithoutQuorum",
}  # fmt: skip


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])", "-", name).lower()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_where_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
    notes = alert["annotations"]
    assert notes["runbook"] == f"docs/runbooks/{kebab(name)}.md"
    assert (ROOT / notes["runbook"]).is_file(), f"whoever is woken by {name} finds no page"
    if name not in OF_NO_HOST:
        assert "$labels.host" in notes["summary"] + notes["description"]
    # HostDown has no number: nothing answers.
    assert name == "HostDown" or "$value" in notes["description"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_belongs_to_an_alert_and_is_whole(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    title = text.splitlines()[0].removeprefix("# ")
    assert title in ALERTS and kebab(title) == page.stem
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    assert parts[1::2] == SECTIONS
    assert all(len(part.strip()) > 5 for part in parts[2::2]), "a section says nothing"


def test_the_index_lists_every_page_once() -> None:
    index = INDEX.read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[\w+\]\((.+?)\) \| (\w+) ", index, flags=re.M)
    wanted = {(f"{kebab(name)}.md", alert["labels"]["severity"]) for name, alert in ALERTS.items()}
    assert set(linked) == wanted and len(linked) == len(wanted)


def test_every_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    files = sorted((ROOT / "roles/monitor/files").glob("rules_test*.yml"))
    tests = [test for path in files for test in yaml.safe_load(path.read_text())["tests"]]
    fires, series = set(), {}
    for test in tests:
        for check in test["alert_rule_test"]:
            series.setdefault(check["alertname"], set()).add(len(test["input_series"]))
            if check["exp_alerts"]:
                fires.add(check["alertname"])
    assert fires == set(ALERTS)
    # The near miss stands beside it, as a series that must not fire.
    assert {name for name, counts in series.items() if max(counts) < 2} <= {"Watchdog"}


WHOLE = {
    "database-primary-lost", "broker-partition", "disk-full", "bad-release",
    "certificate-expired", "host-compromised", "restore-from-backup", "zone-gone",
}  # fmt: skip
STEPS = [
    "What you see",
    "First command",
    "Decide",
    "Commands, in order",
    "It is over when",
    "Write down",
    "Do not",
]
SUPERUSERS = re.compile(r"pg_drop_replication_slot|pg_wal_replay_resume")
HARMLESS = re.compile(r" *(df|du|ss|sort|tail)\b[^>]*$")
ASKS = {"--dry-run", "--check"}
REHEARSED = {
    "deploy", "rollback", "restart", "reboot", "patch", "provision", "deploy.catchup",
    "db.failover", "db.switchover", "db.restore", "db.kill", "hosts.trust", "drain", "workers.drain",
    "maintenance.on",
}  # fmt: skip


def test_each_emergency_has_its_page_and_the_index_says_so() -> None:
    assert {page.stem.removeprefix("emergency-") for page in EMERGENCIES} == WHOLE
    index = INDEX.read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[.+?\]\((emergency-.+?)\) \| .+ \|$", index, flags=re.M)
    assert sorted(linked) == [page.name for page in EMERGENCIES]


@pytest.mark.parametrize("page", EMERGENCIES, ids=lambda page: page.stem)
def test_an_emergency_can_be_followed_half_asleep(page: Path) -> None:
    """The same steps in the same order on every page, and each says something."""
    assert page.read_text(encoding="utf-8").startswith("# Emergency: ")
    found = sections(page)
    assert list(found) == STEPS
    assert all(len(text.split()) > 12 for text in found.values()), "a section says nothing"
    for table in ("First command", "Decide"):
        assert re.search(r"^\|---\|", found[table], re.M), f"{table} has no table"
    steps = re.findall(r"^(\d)\. ", found["Commands, in order"], re.M)
    assert steps == [str(number + 1) for number in range(len(steps))] and len(steps) > 2
    assert len(re.findall(r"^- ", found["Do not"], re.M)) >= 3


@pytest.mark.parametrize("page", EMERGENCIES, ids=lambda page: page.stem)
def test_the_first_command_of_an_emergency_changes_nothing(page: Path) -> None:
    first = sections(page)["First command"]
    assert re.match(r"(?s)[^`]*```console\n\$ fab ", first), "the first thing to type is no `fab …`"
    for _, name, *words in typed(first):
        parts = re.split(r"[;|]", words[0]) if name == "run" else [""]
        harmless = name == "run" and all(HARMLESS.match(part) for part in parts)
        looks_only = name in LOOKS - {"run", "db.psql"} or ASKS & {*words}
        assert looks_only or harmless, f"changes something: {name} {words}"


@pytest.mark.parametrize("page", EMERGENCIES, ids=lambda page: page.stem)
def test_what_hurts_is_rehearsed_first(page: Path) -> None:
    """Whoever copies the first line of a block of commands gets the plan, and only then does it."""
    seen: set[str] = set()
    for _, name, *words in typed(page.read_text(encoding="utf-8")):
        if ASKS & {*words}:
            seen.add(name)
        assert name not in REHEARSED - seen, f"no --dry-run or --check before: {name} {words}"


@pytest.mark.parametrize("page", [*EMERGENCIES, *PAGES], ids=lambda page: page.stem)
def test_commands_of_a_runbook_say_on_which_fleet(page: Path) -> None:
    """A command that is copied from a page at 3 a.m. works as it stands, once ENV is a name."""
    for program, name, *words in typed(page.read_text(encoding="utf-8")):
        if program == "fab":
            assert "--env" in words or words == ["--local"], f"{page.name}: {name} {words}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_session_is_ended_on_the_member_that_the_page_is_about(page: Path) -> None:
    """Without --member it would be the leader's with that number: somebody else's, or nobody's."""
    for words in documented.ours(page.read_text(encoding="utf-8")):
        if words[1] in ("db.kill", "db.locks") and len(words) > 2:
            assert words[words.index("--member") + 1] == "HOST", shlex.join(words)


@pytest.mark.parametrize("page", [*EMERGENCIES, *PAGES], ids=lambda page: page.stem)
def test_what_only_a_superuser_may_ask_of_postgresql_is_typed_as_one(page: Path) -> None:
    """The roles of `fab db.psql` may do none of it."""
    text = page.read_text(encoding="utf-8")
    ours = [words for words in documented.ours(text) if SUPERUSERS.search(" ".join(words))]
    assert len(ours) == len(SUPERUSERS.findall(text)), "a statement, and nothing to type it into"
    for words in ours:
        assert words[:2] == ["fab", "run"] and "--sudo" in words, shlex.join(words)
        psql, *options, statement = shlex.split(words[2])
        assert [psql, *options] == ["psql", "-U", "postgres", "-c"]
        assert re.fullmatch(r"select pg_\w+\(('NAME')?\)", statement), "quotes were lost"


def handed_over(line: str) -> list[str]:
    """The words that `ssh HOST …` hands to the host's shell, which gets them without their quotes."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split, lexer.commenters = True, ""
    program, host, *words = lexer
    assert program == "ssh" and not host.startswith("-")
    return list(itertools.takewhile(lambda word: word not in documented.APART, words))


def broken(words: list[str]) -> str:
    """Why a host's shell makes something else of these words; nothing when it does not."""
    text = " ".join(words)
    if len(words) > 1 and shlex.split(text) != words:
        return "a word falls apart"
    if re.search(r"[*?()$`]", re.sub(r"'[^']*'", "", text)):
        return "the shell makes something of a bare sign"
    return subprocess.run(["sh", "-n", "-c", text], capture_output=True, text=True).stderr


def test_what_ssh_hands_over_is_what_the_page_says() -> None:
    """Quotes that only the reader's own shell sees are gone on the host: `select *` names its files."""
    pages = (ROOT / "docs").rglob("*.md")
    lines = [
        (page.name, line)
        for page in pages
        for line in re.findall(r"^ *\$ (ssh .+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    assert len(lines) > 25
    assert not {(page, line): why for page, line in lines if (why := broken(handed_over(line)))}


@pytest.mark.parametrize(
    "line",
    [
        "ssh DB sudo psql -xc 'select * from pg_stat_archiver'",
        "ssh DB sudo psql -tAc 'select pg_is_in_recovery()'",
        "ssh DB sudo psql -c 'select 1'",
        'ssh DB "sudo psql -c select(1)"',
        "ssh DB ls '*.prom'",
        """ssh DB "sudo psql -c 'select 1" """,
    ],
)
def test_quotes_that_are_gone_on_the_host_are_noticed(line: str) -> None:
    assert broken(handed_over(line))
    assert not broken(handed_over("""ssh DB "sudo psql -xc 'select * from f()'" > there"""))


@pytest.mark.parametrize("page", [*EMERGENCIES, *PAGES], ids=lambda page: page.stem)
def test_what_is_typed_through_fab_run_asks_nothing(page: Path) -> None:
    """It has no terminal: Patroni's question would be answered by nobody."""
    text = page.read_text(encoding="utf-8")
    asking = r"patronictl [^`']*\b(?:failover|reinit|remove|restart|switchover)\b[^`']*"
    assert not [command for command in re.findall(asking, text) if "--force" not in command]


def test_first_looks_can_be_asked_of_a_lab() -> None:
    """What the fleet's test runs: only looks, with every placeholder replaced, and most of the pages."""
    named = {"ENV": "lab", "HOST": "s1", "STREAM": "s1", "EDGE": "e1", "DB": "d1", "PRIMARY": "d1"}
    named |= {"BROKER": "d1", "WORKER": "w1", "BACKUP": "w1", "UNIT": "nginx", "OTHER": "d1"}
    found = looks({**named, "VHOST": "v", "DATABASE": "d"})
    assert len(found) > 60 and len(set(found.values())) > 40
    assert not [words for words in found if words[1] == "db.vacuum" and "--table" in words]
    changing = {"--write", "restart", "start", "stop", "kill", "resume"}
    assert not [words for words in found if changing & {*" ".join(words).split()}]
    for words in found:
        assert words[words.index("--env") + 1] == "lab", words
    patroni = next(words for words, page in found.items() if page == "patroni-down")
    assert patroni[-1] == "d1", "its HOST is a database host"
    assert not [words for words in found if "MONITOR" in " ".join(words)]


def test_every_command_of_an_emergency_is_typed_in_one() -> None:
    """By a test on a live fleet, that fails if it does not end as the page says; but for few stand-ins."""
    followed = [test.follows for module in LIVE for test in vars(module).values() if follows(test)]
    done = {
        command
        for name, own in followed
        for part in own
        for command in chosen(FOLDER / f"emergency-{name}.md", part)
    }
    wanted = {
        command for page in EMERGENCIES for commands in parts(page).values() for command in commands
    }
    assert len(wanted) > 90
    assert sorted(wanted - done) == [], "nobody has tried whether these work"
    assert {stand_in(command) for command in wanted} == {"", *STAND_INS}
    assert sum(bool(stand_in(command)) for command in wanted) == len(STAND_INS)


def follows(thing: object) -> bool:
    return isinstance(getattr(thing, "follows", None), tuple)


def test_commands_are_read_in_the_order_of_the_page_and_filled_in() -> None:
    page = (
        "Say it (`fab maintenance.on --env ENV --message TEXT`), `fab restart` is a name:\n\n"
        "   ```console\n   $ fab run 'a; b OTHER-1' \\\n       --on 'all:!HOST' --env ENV\n   ```\n"
        "Keep it: `fab logs --env ENV --since '1 hour ago' > night.json`.\n"
    )
    first, second, third = documented.shown(page)
    names = {"ENV": "lab", "TEXT": "We mend.", "HOST": "s1", "OTHER": "s2"}
    assert documented.filled(first, names)[-1] == "We mend."
    assert documented.filled(second, names)[2:5] == ["a; b s2-1", "--on", "all:!s1"]
    assert documented.filled(third, names)[-2:] == ["--since", "1 hour ago"]
    with pytest.raises(AssertionError, match="HOST"):
        documented.filled(second, {"ENV": "lab", "OTHER": "s2"})


def test_who_follows_a_page_has_to_come_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And fails by a command that ends otherwise, in another order, or not at all."""
    said: list[str] = []

    def run(*words: str, **more: object) -> Answer:
        said.append(" ".join(words))
        return Answer(2 if "--check" in words else 0, "", "")

    monkeypatch.setattr(reading, "run", run)

    @reading.follows("certificate-expired", "2", "5.1")
    def test(page: reading.Page, steps: list[str]) -> None:
        for step in steps:
            page.next(step)

    def page() -> reading.Page:
        name, own = test.follows  # type: ignore[attr-defined]
        return reading.Page(name, own, {"ENV": "lab"})

    test(page=page(), steps=["2", "2", "5.1"])
    check = "fab provision --env lab --playbook pki"
    assert said == [f"{check} --check", check, "fab db.status --env lab"]
    with pytest.raises(AssertionError, match="not followed to its end"):
        test(page=page(), steps=["2", "5.1"])
    with pytest.raises(AssertionError, match="ended with 0"):
        page().next("5.1", ends=(1,))
