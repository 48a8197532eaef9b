#!/bin/sh
# Waits until systemd has nothing left to start; fails with the names of units that failed, or are
# started over and over.
set -eu
timeout 120 systemctl is-system-running --wait >/dev/null || true
failed=$(systemctl list-units --state=failed,auto-restart --plain --no-legend)
if [ -n "$failed" ]; then
  echo "failed units: $failed" >&2
  exit 1
fi
