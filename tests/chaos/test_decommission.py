"""A host leaves while listeners listen: nobody is cut off, nobody knows it any more, it knows nothing."""

from __future__ import annotations

from tests.live import Fleet


def test_what_would_hurt_is_refused(fleet: Fleet) -> None:
    for group, words in (("database", "database or broker host"), ("edge", "only host of edge")):
        hosts = fleet.hosts(group)
        if group == "edge" and len(hosts) > 1:
            continue
        answer = fleet.playbook("decommission", "-e", f"decommission={hosts[0]}", expect=None)
        assert answer.code != 0 and words in answer.out


def test_a_streaming_host_leaves_and_nobody_hears_it(fleet: Fleet) -> None:
    """The last test on this fleet: run `fab provision` and a deploy to bring the host back."""
    host = fleet.hosts("streaming")[-1]
    crowd = fleet.crowd(fleet.listener(), rate=20.0)
    answer = fleet.playbook("decommission", "-e", f"decommission={host}", timeout=2400)
    tally = crowd.stop()
    print(f"\ndecommission of {host}: {tally.requests} requests, {tally.failed} failed")
    assert not tally.failures, tally.failures
    assert "Its secrets are gone" in answer.out
    for edge in fleet.hosts("edge"):
        assert host not in fleet.on(edge, "sudo cat /etc/haproxy/haproxy.cfg").out
        assert host not in fleet.on(edge, "cat /etc/hosts").out
    for path in ("/etc/jukebox", "/srv/jukebox"):
        assert fleet.on(host, f"sudo test ! -e {path}; echo $?").out.strip() == "0", path
    assert fleet.on(host, "systemctl is-active nginx.service", expect=None).out.strip() != "active"
