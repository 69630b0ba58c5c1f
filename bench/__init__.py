"""Benchmarks: `make bench [B=<name>]`. Each figure is one JSON line on standard output, against a baseline in the same run."""
