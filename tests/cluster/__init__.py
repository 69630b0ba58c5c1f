"""The real Kubernetes that the tests and the demo run on: one node, on this machine, with nothing to install by hand.

It needs no Python package, so that it runs before any environment is made: `python3 -m tests.cluster up`.
"""
