"""Benchmarks: `python -m benchmarks` for the table, `pytest benchmarks` for suites."""
