"""What the base role sets on the system itself; see docs/reference/hardening.md."""


def test_no_unit_failed(host):
    assert host.run("systemctl --failed --no-legend").stdout == ""


def test_the_journal_outlives_a_reboot_and_has_a_limit(host):
    settings = host.run("systemd-analyze cat-config systemd/journald.conf").stdout
    assert "\nStorage=persistent" in settings and "\nSystemMaxUse=1G" in settings
    host.run("logger a-line-to-be-kept && journalctl --flush --sync")
    assert host.run("journalctl -D /var/log/journal -g a-line-to-be-kept -q -o cat").rc == 0


def test_security_upgrades_come_and_nothing_boots_or_restarts_by_itself(host):
    settings = host.run("apt-config dump").stdout
    assert 'APT::Periodic::Unattended-Upgrade "1"' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "false"' in settings
    origins = [line for line in settings.splitlines() if "Origins-Pattern::" in line]
    assert len(origins) == 1 and "-security" in origins[0]
    held = [line for line in settings.splitlines() if "Package-Blacklist::" in line]
    assert any('"^nginx$"' in line for line in held) and any(
        '"^postgresql-"' in line for line in held
    )
    said = host.run("unattended-upgrade --dry-run --debug")
    assert said.rc == 0, said.stderr
    assert "{restart} = 'l'" in host.file("/etc/needrestart/conf.d/50-backline.conf").content_string


def test_the_clock_has_a_keeper(host):
    assert host.service("chrony").is_enabled
    assert host.run("chronyd -p -f /etc/chrony/chrony.conf").rc == 0


def test_audit_rules_are_in_place_and_start_where_they_can(host):
    rules = host.file("/etc/audit/rules.d/60-backline.rules")
    assert rules.mode == 0o640
    for path in ("/etc/sudoers", "/etc/ssh", "/home/ada/.ssh"):
        assert f"-w {path} -p wa" in rules.content_string
    assert host.run("augenrules").rc == 0, "the rules cannot be merged"
    assert host.service("auditd").is_enabled


def test_a_changed_file_of_the_system_is_told_once(host):
    """The first run learns; what changes afterwards is told by the next run and by no later one."""
    assert host.service("backline-integrity.timer").is_running
    unit = "backline-integrity.service"
    host.run(f"systemctl start {unit}")
    host.run("echo planted > /etc/cron.d/planted")
    told = []
    for _ in range(2):
        done = host.run(f"systemctl start {unit}")
        assert done.rc == 0, host.run(f"journalctl -u {unit} -n 20 -o cat").stdout
        run = host.run(f"systemctl show -P InvocationID {unit}").stdout.strip()
        told.append(host.run(f"journalctl _SYSTEMD_INVOCATION_ID={run} -o cat").stdout)
    host.run("rm /etc/cron.d/planted")
    assert "/etc/cron.d/planted" in told[0]
    assert "/etc/cron.d/planted" not in told[1]
    assert host.file("/var/lib/aide").mode == 0o700


def test_there_are_no_core_dumps(host):
    assert host.run("su - ada -c 'ulimit -H -c'").stdout.strip() == "0"


def test_new_homes_are_their_owners_alone(host):
    assert host.file("/home/deploy").mode == 0o750


def test_sysctls_are_written_for_kernels_that_are_ours(host):
    content = host.file("/etc/sysctl.d/60-backline.conf").content_string
    assert "-kernel.kptr_restrict = 2" in content
    assert "-vm.swappiness = 20" in content, "the inventory's own value is not taken"


def test_language_and_time_zone_are_set(host):
    assert host.file("/etc/localtime").linked_to == "/usr/share/zoneinfo/Etc/UTC"
    assert host.file("/etc/default/locale").content_string == "LANG=C.UTF-8\n"
