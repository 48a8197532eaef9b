#!/bin/sh
# Have RabbitMQ read its certificates again, for clients and for other nodes, without a restart.
# Connections that are open stay. Usage: rabbitmq_reload_certificates. Exit 0 when it did.
set -eu
clear='ok = ssl:clear_pem_cache(), ok = gen_server:call(ssl_pem_cache_dist, {unconditionally_clear_pem_cache, self()}).'
if rabbitmqctl --quiet eval "$clear"; then
  exit 0
fi
# A node whose own certificate had expired lets nobody in until it looks again by itself, every 2 minutes, for files that
# are newer than its last look. One that was written before that look and came to its place after it would never be.
sed -n 's/^ssl_options\.\(certfile\|keyfile\) = //p' /etc/rabbitmq/rabbitmq.conf | xargs -r touch --no-create
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13; do
  sleep 10
  if rabbitmqctl --quiet eval "$clear"; then
    exit 0
  fi
done
exit 1
