"""The gateway over real sockets: what a proxy has to carry, how much memory it takes, and payments under fire.

What other people's clients and servers make of it is in `tests/interop`.
"""
