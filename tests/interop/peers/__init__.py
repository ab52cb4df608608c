"""Other people's clients, servers and facilitator, unmodified, each in a process of its own."""

from . import install, places
from .clients import CLIENTS, Answer, ClientError, Clients, ClientSpec, Peer
from .processes import Process, ProcessError
from .servers import SERVERS, Facilitator, Server, ServerSpec

__all__ = [
    "CLIENTS",
    "SERVERS",
    "Answer",
    "ClientError",
    "ClientSpec",
    "Clients",
    "Facilitator",
    "Peer",
    "Process",
    "ProcessError",
    "Server",
    "ServerSpec",
    "install",
    "places",
]
