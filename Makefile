# rae-tasks. `make help` lists the targets. Everything a target needs it sets up itself, under .venv and the user's cache folder.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export UV_PYTHON_DOWNLOADS := never
UV_VERSION := 0.13.9
PY := .venv/bin/python

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml requirements/dev.txt scripts/venv.sh
	@scripts/venv.sh $(UV_VERSION)

.PHONY: venv
venv: .venv/.ready ## Make the Python environment from the lock files

.PHONY: lock
lock: .venv/.ready ## Resolve the dependencies anew and write the lock files (requirements/)
	scripts/lock.sh

.PHONY: lint
lint: .venv/.ready ## ruff, mypy --strict, import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

.PHONY: manifests
manifests: .venv/.ready ## Write the CRDs from their models, the chart's copy of them, and k8s/cronjobs/ from the chart
	$(PY) -m rae_operator.crds
	$(PY) scripts/generate_manifests.py

.PHONY: chart-lint
chart-lint: .venv/.ready ## helm lint --strict, and that no generated manifest is stale
	$(PY) scripts/generate_manifests.py --check
	$(PY) -m pytest -q tests/chart/test_values.py -k lint

.PHONY: cluster-up
cluster-up: ## Have a healthy Kubernetes on this machine (kind where Docker answers)
	python3 -m tests.cluster up

.PHONY: cluster-down
cluster-down: ## End it and leave nothing of it
	python3 -m tests.cluster down

.PHONY: image
image: ## Build the image, and print its size and what is in it
	python3 -m scripts.image --describe rae-tasks

.PHONY: demo
demo: ## The whole product on a real cluster: install, one request of each kind, what came of them
	python3 -m scripts.demo up

.PHONY: demo-down
demo-down: ## End the demo and its cluster
	python3 -m scripts.demo down

.PHONY: bench
bench: .venv/.ready ## Measure (B=<name> for one benchmark); a JSON line for each figure, exit code 1 when one misses its goal
	@$(PY) -m bench $(B)

.PHONY: generated
generated: .venv/.ready ## Fail when a generated file is stale (CRDs, the chart's copies, k8s/cronjobs)
	$(PY) -m rae_operator.crds --check
	$(PY) scripts/generate_manifests.py --check

# Quick suites first; the cluster's own life cycle last, since it takes the cluster down.
SUITES := tests/unit tests/quality tests/integration tests/chart tests/apiserver tests/e2e tests/cluster

.PHONY: test
test: .venv/.ready ## Every test, on real parts: PostgreSQL, Valkey, HTTP, a real Kubernetes
	python3 -m tests.cluster build
	@$(MAKE) --no-print-directory lint generated
	$(PY) -m pytest -m "not soak" --durations=15 --cov --cov-report=term:skip-covered $(SUITES)

.PHONY: soak
soak: .venv/.ready ## What takes longer: large tables, the oldest Kubernetes, PostgreSQL 15
	$(PY) -m pytest -m soak tests/integration
	RAE_TEST_POSTGRES=15 $(PY) -m pytest -m "not soak" tests/integration
	RAE_TEST_KUBERNETES=1.34.4 $(PY) -m pytest tests/e2e tests/cluster
