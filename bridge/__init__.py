"""The half of the bridge that does I/O: the gate, the verifier, settlers, stores, and what they plug into."""
