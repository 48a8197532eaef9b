"""What three brokers promise: a node may go, and nothing that was confirmed goes with it."""

import json
import time

import pytest
import testinfra

NODES = ["rabbit@mol-broker1", "rabbit@mol-broker2", "rabbit@mol-broker3"]


@pytest.fixture(scope="module")
def first(request):
    return testinfra.get_host("podman://mol-broker1")


def queues(host):
    out = host.check_output(
        "rabbitmqctl -q --formatter json list_queues -p music name messages leader members online"
    )
    return {queue["name"]: queue for queue in json.loads(out)}


def wait_for(true, seconds):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(1)
    return true()


def test_nodes_are_one_cluster(host):
    status = json.loads(host.check_output("rabbitmqctl -q cluster_status --formatter json"))
    assert sorted(status["running_nodes"]) == sorted(status["disk_nodes"]) == NODES
    assert status["partitions"] == {}
    assert all("not under maintenance" in text for text in status["maintenance_status"].values())


def test_a_queue_of_one_broker_grew_onto_the_others_and_kept_its_jobs(first):
    kept = queues(first)["kept"]
    assert kept["messages"] == 100
    assert sorted(kept["members"]) == sorted(kept["online"]) == NODES


def test_dead_letters_are_on_all_of_them_too(first):
    assert sorted(queues(first)["dead"]["members"]) == NODES


def test_a_lost_disk_and_a_rolling_restart_lost_no_job(first):
    report = json.loads(first.file("/root/restarts.json").content_string)
    print(report)
    assert report["lost"] == 0 and report["confirmed"] > 100
    assert report["gap"] < 30


def test_the_new_setting_reached_all_of_them(host):
    assert (
        host.check_output("rabbitmqctl -q eval 'application:get_env(rabbit, consumer_timeout).'")
        == "{ok,10800000}"
    )


def test_they_restarted_one_after_the_other(first):
    def spells(name):
        """(stopped, serving again) in seconds, of the last restart."""
        log = testinfra.get_host(f"podman://{name}").check_output(
            "journalctl -u rabbitmq-server -o short-unix --no-pager"
        )
        return tuple(
            max(float(line.split()[0]) for line in log.splitlines() if said in line)
            for said in ("Stopping rabbitmq-server.service", "Server startup complete")
        )

    restarts = sorted(spells(name) for name in ("mol-broker1", "mol-broker2"))
    assert restarts[0][1] < restarts[1][0]


def test_a_killed_broker_takes_no_confirmed_job_with_it(first):
    first.check_output(
        "systemd-run --quiet --unit=traffic python3 /root/traffic.py run plays /root/killed.json"
    )
    assert wait_for(lambda: "plays" in queues(first), 10)
    time.sleep(5)
    leader = queues(first)["plays"]["leader"].removeprefix("rabbit@")
    victim = testinfra.get_host(f"podman://{leader}")
    # Nothing brings it back meanwhile.
    victim.check_output(
        "systemctl kill --signal=KILL rabbitmq-server; systemctl stop rabbitmq-server"
    )
    time.sleep(10)
    first.check_output("systemctl stop traffic")
    victim.check_output("systemctl start rabbitmq-server")
    report = json.loads(first.file("/root/killed.json").content_string)
    print(report)
    assert report["lost"] == 0 and report["confirmed"] > 100
    assert report["gap"] < 30


def test_a_broker_on_which_a_queue_depends_says_so(first):
    away = testinfra.get_host("podman://mol-broker3")
    assert wait_for(lambda: all(len(q["online"]) == 3 for q in queues(first).values()), 60)
    away.check_output("systemctl stop rabbitmq-server")
    try:
        assert first.run("rabbitmq-queues -q check_if_node_is_quorum_critical").rc != 0
    finally:
        away.check_output("systemctl start rabbitmq-server")


def test_a_broker_that_a_partition_left_stopped_is_started_anew(first):
    """`stop_app` leaves what a second partition leaves: a process that runs, and nothing in it."""
    assert wait_for(lambda: all(len(q["online"]) == 3 for q in queues(first).values()), 60)
    left = testinfra.get_host("podman://mol-broker3")
    before = left.check_output("systemctl show rabbitmq-server --property MainPID --value")
    left.check_output("rabbitmqctl -q stop_app")
    assert wait_for(lambda: left.run("rabbitmqctl -q list_vhosts").rc == 0, 180)
    assert left.check_output("systemctl show rabbitmq-server --property MainPID --value") != before
    assert "restarted" in left.check_output("journalctl -u backline-broker-mend -o cat")
    assert not left.file("/run/backline-broker-mend/since").exists
