"""Tests of the pure core: tables, properties, fuzzing and public vectors."""
