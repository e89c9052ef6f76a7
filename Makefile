# Forebay: `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
PROTOS := $(sort $(wildcard protos/lmaas/*/v1/*.proto))
SERVICES := $(filter %_service.proto,$(PROTOS))
GENERATED := clients/python

.PHONY: generate
generate: ## Regenerate the protobuf stubs, offline
	find $(GENERATED)/lmaas -name '*_pb2*' -delete 2>/dev/null || true
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Iprotos --python_out=$(GENERATED) --pyi_out=$(GENERATED) $(PROTOS)
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m grpc_tools.protoc -Iprotos --grpc_python_out=$(GENERATED) \
	  --mypy_grpc_out=quiet:$(GENERATED) $(SERVICES)
