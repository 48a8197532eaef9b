#!/bin/sh
# Have RabbitMQ read its certificates again, for clients and for other nodes, without a restart.
# Connections that are open stay. Usage: rabbitmq_reload_certificates. Exit 0 when it did.
set -eu
clear='ok = ssl:clear_pem_cache(), ok = gen_server:call(ssl_pem_cache_dist, {unconditionally_clear_pem_cache, self()}).'
# A node whose own certificate had expired lets nobody in until it looks again by itself: 2 minutes.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13; do
  if rabbitmqctl --quiet eval "$clear"; then
    exit 0
  fi
  sleep 10
done
exit 1
