#!/bin/sh
# Try a pgbouncer.ini without disturbing the PgBouncer that runs: start one on it that listens nowhere.
# Usage: check_pgbouncer_ini.sh FILE. Exit 0 when it starts, else its reasons on stderr.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
chown pgbouncer "$room"
# It takes its databases from here: there is no copy of them before the first start.
{
  sed "s|^%include .*|%include /etc/pgbouncer/databases.ini|" "$1"
  printf '\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = %s\n' "$room"
} >"$room/pgbouncer.ini"
chown pgbouncer "$room/pgbouncer.ini"
# systemd's variables would make it speak to systemd. It says where it listens once it has read everything.
runuser -u pgbouncer -- env -u NOTIFY_SOCKET timeout --signal=TERM 1 pgbouncer "$room/pgbouncer.ini" >"$room/log" 2>&1 || true
if grep -q 'process up' "$room/log" && ! grep -qE ' (ERROR|FATAL) ' "$room/log"; then
  exit 0
fi
cat "$room/log" >&2
exit 1
