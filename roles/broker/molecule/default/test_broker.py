"""What an SRE relies on after the broker role, on a cluster of one."""

import json
import shlex

import pytest

PASSWORD = 'it\'s %s a "song"'

# Signs in as an AMQP client does and prints the broker's answer: 10.30 (tune) when it is let in.
SIGN_IN = """
import socket, struct, sys
address, user, password = sys.argv[1:]
short = lambda b: bytes([len(b)]) + b
long = lambda b: struct.pack(">I", len(b)) + b
s = socket.create_connection((address, 5672), timeout=5)
s.sendall(b"AMQP\\0\\0\\x09\\x01")
s.recv(65536)
body = struct.pack(">HH", 10, 11) + long(b"") + short(b"PLAIN")
body += long(b"\\0" + user.encode() + b"\\0" + password.encode()) + short(b"en_US")
s.sendall(b"\\x01\\0\\0" + long(body) + b"\\xce")
try:
    answer = s.recv(65536)
except ConnectionResetError:
    answer = b""
print("%d.%d" % struct.unpack(">HH", answer[7:11]) if len(answer) > 10 else "closed")
"""


@pytest.fixture
def address(host):
    return host.interface("eth0").addresses[0]


@pytest.fixture
def sign_in(host, address):
    def run(user, password):
        arguments = (SIGN_IN, address, user, password)
        return host.check_output("python3 -c " + " ".join(shlex.quote(part) for part in arguments))

    return run


def rabbitmqctl(host, *arguments):
    return json.loads(host.check_output(f"rabbitmqctl -q --formatter json {' '.join(arguments)}"))


def test_it_runs_and_comes_back_after_a_reboot(host):
    service = host.service("rabbitmq-server")
    assert service.is_running and service.is_enabled


def test_the_application_gets_in(sign_in):
    assert sign_in("jukebox", PASSWORD) == "10.30"


@pytest.mark.parametrize(
    ("user", "password"), [("jukebox", "wrong"), ("guest", "guest"), ("nobody", "x")]
)
def test_everybody_else_is_refused(sign_in, user, password):
    assert sign_in(user, password) != "10.30"


def test_guest_is_gone(host):
    users = {user["user"]: user["tags"] for user in rabbitmqctl(host, "list_users")}
    assert users == {"jukebox": [], "reader": ["monitoring"]}


def test_each_user_may_do_what_the_inventory_says(host):
    rights = {p["user"]: p for p in rabbitmqctl(host, "list_permissions", "-p", "music")}
    assert rights["jukebox"]["write"] == ".*"
    assert rights["reader"]["write"] == "^$" and rights["reader"]["read"] == ".*"


def test_a_poisoned_job_is_not_delivered_for_ever(host):
    (policy,) = rabbitmqctl(host, "list_policies", "-p", "music")
    assert json.loads(policy["definition"]) == {"delivery-limit": 20}


def test_limits_fit_the_host(host):
    limits = host.check_output(
        "rabbitmqctl -q eval '{vm_memory_monitor:get_memory_limit(),"
        " application:get_env(rabbit, consumer_timeout), erlang:system_info(schedulers)}.'"
    )
    assert limits == "{256000000,{ok,21600000},1}"


def test_the_nodes_secret_is_readable_by_the_node_alone(host):
    cookie = host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.mode, cookie.user) == (0o400, "rabbitmq")
    assert cookie.content_string == "a-secret-of-the-nodes"


def test_passwords_are_in_no_process_and_no_log(host):
    assert "song" not in host.check_output("ps -eo args | grep -v python3")
    assert "song" not in host.check_output("journalctl --no-pager -u rabbitmq-server")


def test_nothing_listens_to_the_whole_world(host, address):
    listening = host.check_output("ss -Hltn | awk '{print $4}'").split()
    for port in (5672, 25672, 4369):
        assert f"{address}:{port}" in listening
        assert not {f"0.0.0.0:{port}", f"*:{port}", f"[::]:{port}"} & set(listening)


def test_a_wrong_configuration_would_be_refused(host):
    host.check_output("echo 'listners.tcp.1 = 5672' > /tmp/wrong.conf")
    refused = host.run("check_rabbitmq_conf /tmp/wrong.conf")
    assert refused.rc == 1 and "listners.tcp.1" in refused.stderr + refused.stdout
    assert host.run("check_rabbitmq_conf /etc/rabbitmq/rabbitmq.conf").rc == 0
