"""What can go wrong between the gateway and an upstream, by what it means for a payment that was being passed on."""

__all__ = ["ClientGone", "TooLarge", "Unanswered", "Unreached"]


class Unreached(Exception):
    """No connection: nothing was sent."""


class Unanswered(Exception):
    """Something was sent, and no answer came; `timed_out` says whether it was waited for in vain."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__("timed out" if timed_out else "broken off")
        self.timed_out = timed_out


class TooLarge(Exception):
    """The request's body is longer than the limit."""


class ClientGone(Exception):
    """The client left while it was sending, or being sent to."""
