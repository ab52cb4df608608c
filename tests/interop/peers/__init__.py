"""Other people's clients, servers and facilitator, unmodified, each in a process of its own."""

from . import install, places
from .clients import CLIENTS, Answer, ClientError, Clients, ClientSpec, Peer
from .documented import DOCUMENTED, Documented
from .processes import Process, ProcessError
from .servers import SERVERS, Facilitator, Server, ServerSpec

__all__ = [
    "CLIENTS",
    "DOCUMENTED",
    "SERVERS",
    "Answer",
    "ClientError",
    "ClientSpec",
    "Clients",
    "Documented",
    "Facilitator",
    "Peer",
    "Process",
    "ProcessError",
    "Server",
    "ServerSpec",
    "install",
    "places",
]
