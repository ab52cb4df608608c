"""Levers: where the owner's stages come from, and what they come to for one request."""

from bridge.levers.board import LeverBoard
from bridge.levers.sources import LeverSource, source_from_spec

__all__ = ["LeverBoard", "LeverSource", "source_from_spec"]
