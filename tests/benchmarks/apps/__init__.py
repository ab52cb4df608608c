"""The servers that are measured: each answers GET /report for a cent, and settles nowhere."""
