"""From an existing x402 server to settings of ours: its route table is read, and what comes out is compared with it."""
