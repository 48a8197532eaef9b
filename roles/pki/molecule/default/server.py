"""A TLS server that lets in who shows a certificate of our CA: `server.py gentle|stubborn PORT`.

gentle reads certificate, key and CAs when it starts and on SIGHUP. stubborn reads certificate and key
for each connection, and the CAs when it starts, never again.
"""

import contextlib
import os
import pathlib
import signal
import socket
import ssl
import sys
import threading

FOLDER = "/etc/backline/pki"
KIND, PORT = sys.argv[1], int(sys.argv[2])


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def cas():
    return pathlib.Path(f"{FOLDER}/ca.pem").read_text()


def context(trusted):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{FOLDER}/host.pem", f"{FOLDER}/host.key")
    made.load_verify_locations(cadata=trusted)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def serve(connection, made):
    with contextlib.suppress(OSError), connection:
        connection.settimeout(5)
        with made.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"hello " + secured.recv(100))


started = cas()
current = context(started)


def reread(*_):
    global current
    current = context(cas())


signal.signal(signal.SIGHUP, reread if KIND == "gentle" else signal.SIG_IGN)
with socket.create_server(("", PORT), backlog=100) as listener:
    notify("READY=1")
    while True:
        connection, _ = listener.accept()
        try:
            made = current if KIND == "gentle" else context(started)
        except (OSError, ssl.SSLError):
            connection.close()  # between a new key and its certificate
            continue
        threading.Thread(target=serve, args=(connection, made), daemon=True).start()
