"""The demo's accounts. Their keys are made from public words: never send them anything of value."""

from bridge.payers import account

__all__ = ["PAYERS", "RECIPIENT", "RELAYER"]

PAYERS = tuple(account(f"payer {number}") for number in (1, 2, 3))
RECIPIENT = account("recipient")
RELAYER = account("relayer")
