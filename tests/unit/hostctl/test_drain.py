"""`hostctl drain`: the flag, and what makes it outlive a reboot."""

from __future__ import annotations

from backline.hostctl import drain

from .fake_host import Lab


def test_off_ends_every_way_in_which_a_host_stays_drained(lab: Lab) -> None:
    """patch.yml keeps a host drained over a reboot in a file of its own."""
    lab.take()
    lab.ok("drain", action="on", persist=True)
    by_patch = lab.host.path(drain.BY_PATCH)
    by_patch.write_text("f /run/backline/drain 0644 root root - patch-1\n")
    assert lab.ok("drain", action="off")["already"] is False
    left = [lab.host.path(name) for name in (drain.FLAG, drain.PERSISTENT, drain.BY_PATCH)]
    assert not any(path.exists() for path in left)
    assert lab.ok("drain", action="off")["already"] is True


def test_a_host_that_would_be_drained_by_its_next_boot_alone_is_not_off(lab: Lab) -> None:
    lab.take()
    lab.host.path(drain.BY_PATCH).write_text("f /run/backline/drain\n")
    assert lab.ok("drain", action="off")["already"] is False
    assert not lab.host.path(drain.BY_PATCH).exists()


def test_a_host_that_an_operator_drains_is_not_put_back_by_a_patch(lab: Lab) -> None:
    """A patch puts back what bears its name."""
    lab.take()
    by_patch = lab.host.path(drain.BY_PATCH)
    for persist in (True, False):
        lab.host.path(drain.FLAG).write_text("patch-20261122T190500Z\n")
        by_patch.write_text("f /run/backline/drain 0644 root root - patch-20261122T190500Z\n")
        assert lab.ok("drain", action="on", persist=persist)["already"] is False
        assert not lab.host.path(drain.FLAG).read_text().startswith("patch-")
        assert not by_patch.exists(), "after a boot the flag would bear the patch's name again"
        assert lab.ok("drain", action="on", persist=persist)["already"] is True
