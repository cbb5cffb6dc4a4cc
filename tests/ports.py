"""Ports that a test must know before anybody listens there."""

import random
import socket

__all__ = ["free_port"]

# Below those that the kernel gives to whoever asks for any: while a gateway is down between two lives, no outgoing connection
# of a chain or a vendor takes its place.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """Return a port on loopback that nobody has, and that nobody gets by chance. Raises OSError when there is none."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
