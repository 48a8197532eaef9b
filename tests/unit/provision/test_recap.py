"""What an operator is told of a run of Ansible, from the events that it emits."""

from __future__ import annotations

from typing import Any

from backline.provision.recap import HIDDEN, Recap


def event(kind: str, host: str, task: str, **data: Any) -> dict[str, Any]:
    return {
        "event": f"runner_on_{kind}",
        "event_data": {"host": host, "task": task, "task_uuid": task, **data},
    }


def told(*events: dict[str, Any]) -> Recap:
    recap = Recap()
    for one in events:
        recap.take(one)
    return recap


def test_a_change_is_listed_once_with_all_its_hosts() -> None:
    diff = {"before": "a\n", "after": "b\n", "before_header": "/etc/x", "after_header": "new"}
    result = {"changed": True, "diff": [diff]}
    recap = told(*(event("ok", host, "Write x", res=result) for host in ("stream1", "stream2")))
    (change,) = recap.changes.values()
    assert change.hosts == ["stream1", "stream2"]
    assert list(change.diffs.values()) == [["stream1", "stream2"]]
    assert "-a\n+b" in next(iter(change.diffs))


def test_a_host_lost_in_the_middle_is_named_and_the_others_count_on() -> None:
    recap = told(
        event("ok", "db1", "One", res={"changed": True}),
        event("ok", "db2", "One", res={}),
        event("unreachable", "db2", "Two", res={"msg": "Connection timed out"}),
        event("ok", "db1", "Two", res={}),
        {"event": "playbook_on_stats", "event_data": {}},
    )
    assert recap.unreachable() == ["db2"] and recap.failed() == []
    assert recap.troubles[0].task == "Two" and "timed out" in recap.troubles[0].message
    assert (recap.hosts["db1"].ok, recap.hosts["db2"].ok, recap.ended) == (2, 1, True)


def test_a_helper_that_is_out_of_reach_and_ignored_makes_nobody_unreachable() -> None:
    """Ansible tells of it as of any other, in the name of the host that asked; its totals know better."""
    events = [
        event("unreachable", "edge1", "Ask the others of its kind", res={"unreachable": True}),
        event("unreachable", "edge3", "Gather", res={"msg": "Connection timed out"}),
    ]
    assert told(*events).unreachable() == ["edge1", "edge3"], "a run that was cut off has no totals"
    recap = told(*events, {"event": "playbook_on_stats", "event_data": {"dark": {"edge3": 1}}})
    assert recap.unreachable() == ["edge3"]
    assert (recap.hosts["edge1"].unreachable, recap.hosts["edge1"].ok) == (0, 1)
    assert recap.hosts["edge3"].unreachable == 1


def test_a_failure_of_one_item_tells_its_reason() -> None:
    items = [{"changed": True}, {"failed": True, "msg": "no such group"}]
    recap = told(event("failed", "db1", "Users", res={"msg": "Some failed", "results": items}))
    assert "no such group" in recap.troubles[0].message
    assert recap.failed() == ["db1"]


def test_an_ignored_failure_is_none() -> None:
    recap = told(event("failed", "db1", "Try", res={"msg": "no"}, ignore_errors=True))
    assert not recap.troubles and recap.hosts["db1"].ok == 1


def test_a_censored_result_shows_nothing_of_itself() -> None:
    secret = {"censored": "x", "changed": True, "diff": {"before": "", "after": "s3cret"}}
    recap = told(event("ok", "db1", "Set", res=secret), event("failed", "db1", "Set", res=secret))
    (change,) = recap.changes.values()
    assert not change.diffs and recap.troubles[0].message == HIDDEN
    assert "s3cret" not in repr(recap)


def test_a_no_log_item_hides_its_difference() -> None:
    items = [{"censored": "hidden", "diff": {"before": "", "after": "s3cret"}, "changed": True}]
    recap = told(event("ok", "db1", "Set", res={"changed": True, "results": items}))
    assert "s3cret" not in repr(recap) and recap.changed() == ["db1"]


def test_a_change_that_only_the_totals_tell_of_counts_as_one() -> None:
    """Else drift in a task with `no_log` would go unseen."""
    recap = told(
        event("ok", "db1", "Set", res={"censored": "hidden"}),
        {"event": "playbook_on_stats", "event_data": {"changed": {"db1": 1}}},
    )
    assert recap.changed() == ["db1"]
    assert [change.hosts for change in recap.changes.values()] == [["db1"]]


def test_what_a_playbook_says_to_people_is_kept_once() -> None:
    said = {"msg": ["db1  rebooted", "", "db2  nothing to do"]}
    recap = told(
        *(
            event("ok", host, "Sum up", res=said, task_action="ansible.builtin.debug")
            for host in "ab"
        ),
        event(
            "ok", "a", "Something else", res={"msg": "OK"}, task_action="ansible.builtin.command"
        ),
    )
    assert recap.told == ["db1  rebooted\ndb2  nothing to do"]
