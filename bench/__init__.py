"""Benchmarks: each file backs one claim, prints a table, writes JSON, and compares within the same run."""
