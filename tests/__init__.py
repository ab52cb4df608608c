"""The tests. A package, so that `python -m tests.layers` and the fuzzer can be run by name."""
