"""What an SRE relies on after the broker role, on a cluster of one."""

import json
import shlex
import time

import pytest

PKI = "/etc/backline/pki"
PASSWORD = 'it\'s %s a "song"'

# A client as the application is one: who, how, and what to do once it is in.
CLIENT = """
import ssl, sys
import pika
user, password, port, ca, certificate, key, what = sys.argv[1:]
options = None
if ca:
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    options = pika.SSLOptions(context, "broker")
link = pika.BlockingConnection(pika.ConnectionParameters(
    "mol-broker", int(port), "music", pika.PlainCredentials(user, password), ssl_options=options,
    socket_timeout=5, stack_timeout=10, blocked_connection_timeout=10))
channel = link.channel()
channel.confirm_delivery()
exec(what)
print("let in")
link.close()
"""

# A job that always fails, then the dead letter that becomes of it.
POISON = """
channel.queue_declare("plays", durable=True)
channel.basic_publish("", "plays", b"poison", pika.BasicProperties(delivery_mode=2))
deliveries = 0
for method, _, _ in channel.consume("plays", inactivity_timeout=3):
    if method is None:
        break
    deliveries += 1
    channel.basic_nack(method.delivery_tag, requeue=True)
channel.cancel()
method, properties, body = channel.basic_get("dead", auto_ack=True)
print(deliveries, body.decode(), properties.headers["x-death"][0]["reason"])
"""


@pytest.fixture
def address(host):
    return host.interface("eth0").addresses[0]


@pytest.fixture
def client(host):
    """Run the client with changes to what is right; what it printed, errors too."""

    def run(
        what="",
        *,
        user="jukebox",
        password=PASSWORD,
        port=5671,
        ca=f"{PKI}/ca.pem",
        shows="",
        key="",
    ):
        words = [user, password, str(port), ca, shows, key, what]
        done = host.run("python3 -c " + " ".join(shlex.quote(word) for word in (CLIENT, *words)))
        return done.stdout + done.stderr

    return run


def rabbitmqctl(host, *arguments):
    return json.loads(host.check_output(f"rabbitmqctl -q --formatter json {' '.join(arguments)}"))


def test_it_runs_and_comes_back_after_a_reboot(host):
    service = host.service("rabbitmq-server")
    assert service.is_running and service.is_enabled


def test_the_application_gets_in(client):
    assert client().splitlines()[-1] == "let in"


@pytest.mark.parametrize(
    ("user", "password"), [("jukebox", "wrong"), ("guest", "guest"), ("nobody", "x")]
)
def test_everybody_else_is_refused(client, user, password):
    said = client(user=user, password=password)
    assert "let in" not in said and "ACCESS_REFUSED" in said


@pytest.mark.parametrize("port", [5671, 5672])
def test_a_client_without_tls_is_refused(client, port):
    assert "let in" not in client(ca="", port=port)


def test_a_client_of_another_authority_trusts_nobody_here(client):
    assert "CERTIFICATE_VERIFY_FAILED" in client(ca="/root/strangers/other-ca.pem")


@pytest.mark.parametrize(
    ("shows", "key"), [("expired", f"{PKI}/host"), ("other", "/root/strangers/other")]
)
def test_a_client_that_shows_a_bad_certificate_is_refused(client, shows, key):
    said = client(shows=f"/root/strangers/{shows}.pem", key=f"{key}.key")
    assert "let in" not in said
    assert client(shows=f"{PKI}/host.pem", key=f"{PKI}/host.key").splitlines()[-1] == "let in"


@pytest.mark.parametrize(
    ("version", "good"), [("tls1_3", True), ("tls1_2", True), ("tls1_1", False)]
)
def test_old_tls_is_refused(host, address, version, good):
    done = host.run(
        f"openssl s_client -connect {address}:5671 -{version} -cipher DEFAULT@SECLEVEL=0 "
        f"-CAfile {PKI}/ca.pem -verify_return_error </dev/null"
    )
    assert (done.rc == 0 and "Verify return code: 0" in done.stdout) == good


def test_a_certificate_is_taken_up_without_a_restart_and_an_expired_one_is_refused(host, client):
    pid = host.check_output("systemctl show --property MainPID rabbitmq-server")
    # rabbitmqctl shows the host's certificate too, and has to get in with a good one.
    host.check_output(
        f"install -m 640 -g pki {PKI}/host.pem /tmp/good.pem && "
        f"sed s,{PKI}/host.pem,/tmp/good.pem, /etc/rabbitmq/inter_node_tls.config > /tmp/good.config"
    )
    good = (
        "RABBITMQ_CTL_ERL_ARGS='+S 1:1 -proto_dist inet_tls -ssl_dist_optfile /tmp/good.config' "
        "rabbitmq_reload_certificates"
    )
    try:
        host.check_output(f"cp /root/strangers/expired.pem {PKI}/host.pem && {good}")
        assert "certificate has expired" in client()
        assert host.run("rabbitmqctl -q eval ok.").stdout.strip() != "ok"
    finally:
        # As old as a file that took a while to its place: the node would not look at it by itself.
        host.check_output(f"touch -d -1hour /tmp/good.pem && cp -a /tmp/good.pem {PKI}/host.pem")
        host.check_output("rabbitmq_reload_certificates")
    assert client().splitlines()[-1] == "let in"
    assert (
        host.check_output("rabbitmq_reload_certificates; rabbitmqctl -q eval ok.").splitlines()[-1]
        == "ok"
    )
    assert pid == host.check_output("systemctl show --property MainPID rabbitmq-server")


def test_nodes_talk_to_holders_of_certificates_only(host, address):
    ask = f"openssl s_client -connect {address}:25672 -CAfile {PKI}/ca.pem -verify_return_error -quiet"
    refused = host.run(f"echo | timeout 10 {ask}")
    assert "certificate required" in refused.stderr
    known = host.run(f"echo | timeout 10 {ask} -cert {PKI}/host.pem -key {PKI}/host.key")
    assert "alert" not in known.stderr


def test_users_are_those_of_the_inventory_and_those_it_never_made(host):
    users = {user["user"]: user["tags"] for user in rabbitmqctl(host, "list_users")}
    assert users == {
        "jukebox": ["inventory"],
        "reader": ["monitoring", "inventory"],
        "stranger": [],
    }


def test_each_user_may_do_what_the_inventory_says(host):
    rights = {p["user"]: p for p in rabbitmqctl(host, "list_permissions", "-p", "music")}
    assert rights["jukebox"]["write"] == ".*"
    assert rights["reader"]["write"] == "^$" and rights["reader"]["read"] == ".*"
    assert rabbitmqctl(host, "list_permissions", "-p", "/") == []


def test_policies_are_those_of_the_inventory(host):
    (policy,) = rabbitmqctl(host, "list_policies", "-p", "music")
    assert policy["name"] == "jobs"


def test_a_poisoned_job_is_kept_as_a_dead_letter(host, client):
    assert client(POISON).splitlines()[0] == "4 poison delivery_limit"
    queues = {
        q["name"]: q["type"]
        for q in rabbitmqctl(host, "list_queues", "-p", "music", "name", "type")
    }
    assert queues == {"plays": "quorum", "dead": "quorum"}


def test_limits_fit_the_host_and_a_change_reached_the_daemon(host):
    limits = host.check_output(
        "rabbitmqctl -q eval '{vm_memory_monitor:get_memory_limit(),"
        " rabbit_disk_monitor:get_disk_free_limit(),"
        " application:get_env(rabbit, consumer_timeout), erlang:system_info(schedulers)}.'"
    )
    assert limits == "{256000000,1024000000,{ok,10800000},1}"


def test_prometheus_sees_each_queue(host, address):
    until = time.monotonic() + 15
    wanted = 'rabbitmq_detailed_queue_messages{vhost="music",queue="dead"} 0'
    url = f"http://{address}:15692/metrics/detailed?family=queue_coarse_metrics"
    while wanted not in (seen := host.run(f"curl -s '{url}'").stdout) and time.monotonic() < until:
        time.sleep(1)
    assert wanted in seen
    assert "rabbitmq_alarms_memory_used_watermark 0" in host.check_output(
        f"curl -s {address}:15692/metrics"
    )


def test_the_nodes_secret_is_readable_by_the_node_alone(host):
    cookie = host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.mode, cookie.user) == (0o400, "rabbitmq")
    assert cookie.content_string == "a-secret-of-the-nodes"


def test_passwords_are_in_no_process_and_no_log(host):
    assert "song" not in host.check_output("ps -eo args | grep -v python3")
    assert "song" not in host.check_output("journalctl --no-pager -u rabbitmq-server")


def test_nothing_listens_to_the_whole_world(host, address):
    listening = host.check_output("ss -Hltn | awk '{print $4}'").split()
    for port in (5671, 15692, 25672, 4369):
        assert f"{address}:{port}" in listening
        assert not {f"0.0.0.0:{port}", f"*:{port}", f"[::]:{port}"} & set(listening)
    assert not [socket for socket in listening if socket.endswith(":5672")]


def test_a_wrong_configuration_would_be_refused(host):
    host.check_output(
        "echo 'listners.tcp.1 = 5672' > /tmp/wrong.conf; echo '[{server' > /tmp/wrong.config"
    )
    refused = host.run("check_rabbitmq_conf /tmp/wrong.conf")
    assert refused.rc == 1 and "listners.tcp.1" in refused.stderr + refused.stdout
    assert host.run("check_rabbitmq_conf --terms /tmp/wrong.config").rc == 1
    assert host.run("check_rabbitmq_conf /etc/rabbitmq/rabbitmq.conf").rc == 0
