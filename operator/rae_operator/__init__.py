"""The operator that turns request custom resources into Jobs and reports on them."""
