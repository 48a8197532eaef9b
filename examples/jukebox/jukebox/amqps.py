"""RabbitMQ over TLS: every broker proves that it is the one in its own URL.

kombu writes the first broker's name into the settings for good and would expect it of the next
broker too. Here each connection gets settings of its own, from its own URL.
"""

from __future__ import annotations

import ssl

import kombu.transport
from kombu.transport.pyamqp import SSLTransport


def settings(ca: str) -> dict[str, object]:
    """What CELERY_BROKER_USE_SSL has to be: `ca` is a file of authorities, "" the system's own."""
    return {"cert_reqs": ssl.CERT_REQUIRED, **({"ca_certs": ca} if ca else {})}


class Transport(SSLTransport):
    """The transport of amqps:// URLs."""

    def establish_connection(self) -> object:
        chosen = self.client.ssl if isinstance(self.client.ssl, dict) else settings("")
        self.client.ssl = {**chosen, "server_hostname": self.client.hostname}
        return super().establish_connection()


#: For all of amqps://, also where kombu goes on to the next of several URLs.
kombu.transport.TRANSPORT_ALIASES["amqps"] = f"{__name__}:{Transport.__name__}"
