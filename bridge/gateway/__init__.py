"""The gateway: MPP, and the other version of x402, for an x402 server that nobody touches."""
