"""Settlers: how an authorization becomes money on the chain."""
