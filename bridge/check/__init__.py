"""`x402-mpp check`: what a server says, read as its clients would, and what is wrong with it."""
