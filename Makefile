# Everything that a developer or a newcomer runs. `make help` lists it.
#
# PYTHON names the interpreter that makes .venv: make demo PYTHON=python3.13
# STORE_JAVA_HOME names the JDK that store nodes run on, if the one on PATH is too old.
# STORES names the kinds of nodes for test-stores, with blanks between: make test-stores STORES='elasticsearch8 elasticsearch9'
# WORKERS is how many tests run side by side, each worker with an API server and store nodes of its own (0: none, in
# order). Unless it is set, `make test` has 3, since many of its tests wait, and whatever else has 2.
# KUBEBUILDER_ASSETS, if set, names a folder of etcd and kube-apiserver that is used instead of fetching or building them.
# ENVTEST_INDEX names the index of prebuilt ones, if not Kubernetes' own; off: build them from source.

PYTHON ?= python3
UV ?= uv
TESTS ?= tests
ARGS ?=
SEEDS ?= 1000
FIRST ?= 0
ONLY ?=
WORKERS ?= 2
KIND ?= opensearch2
STORES ?= all

VENV := .venv
PACKAGES := $(VENV)/.packages
STAMP := $(VENV)/.installed
PROMTOOL := $(HOME)/.cache/rollup-operator/promtool/v0.316.0/promtool
# Absolute, because the demo and the tests start processes in other folders.
BIN := $(CURDIR)/$(VENV)/bin
SOURCES := $(CURDIR)/deploy/local:$(CURDIR)/deploy/demo:$(CURDIR)/deploy/image:$(CURDIR)/deploy/release
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

# Each of the many processes that tests start would compile the operator anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo up down quick test test-stores simulate simulate-mutations lint format generate bench bench-search bench-loop bench-page bench-page-size bench-stores soak promtool locks api-server control-plane stores store-up store-down verdict java-client node-client docs \
	clean image release node node-packages e2e-cluster chromium browser picture

help: ## Show this list
	@echo 'Needs Python 3.11 or newer and Go; tests of OpenSearch and Elasticsearch stores also a JDK 21 or newer and Maven,'
	@echo 'and those of a JavaScript client Node.js 20 or newer and npm.'
	@echo 'Whatever else is needed is installed into $(VENV) and ~/.cache.'
	@echo
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | \
		while IFS='|' read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

demo: $(STAMP) ## Roll up real data on a real API server, stop a job in the middle, show the results; ends by itself
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m rollup_demo demo

up: $(STAMP) ## Start what the demo starts, and leave it running for you to try
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m rollup_demo up

down: $(STAMP) ## End what `make up` started, and remove its data
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m rollup_demo down

# What takes long is marked slow, or is in a folder that is named for what it starts.
QUICK_TESTS := tests/unit tests/contract tests/simulation

quick: $(STAMP) api-server ## Run what to run before each commit: unit and contract tests and a short simulation; 2 minutes on 2 idle cores
	@"$(BIN)/python" -m pytest -n $(WORKERS) --dist loadfile -q -m 'not slow' $(QUICK_TESTS) $(ARGS)

# A worker that is stuck where no signal ends its test is ended, says where each thread was, and is replaced.
STUCK := -o faulthandler_timeout=1200 -o faulthandler_exit_on_timeout=true

test: $(STAMP) control-plane stores verdict java-client node-client ## Run all tests, those of `make quick` too; TESTS=tests/unit for some, ARGS='-k name' for pytest's options
	@echo 'tests: each real API server or store node that they need starts in 2 to 4 seconds; the whole takes 10 to 20 minutes'
	@"$(BIN)/python" -m pytest -n $(if $(findstring file,$(origin WORKERS)),3,$(WORKERS)) --dist loadfile --no-loadscope-reorder $(STUCK) $(TESTS) $(ARGS)

STORE_TESTS := tests/stores/opensearch $(wildcard tests/faults/test_store_*.py) tests/faults/test_leadership_store.py

test-stores: $(STAMP) api-server stores ## Run all tests of stores on each kind of node, and write what ran where into docs/clusters.md; 5 minutes a kind
	@"$(BIN)/python" -m pytest -n $(WORKERS) --dist loadfile $(STORE_TESTS) --stores='$(STORES)' --store-record=tests/stores.json $(ARGS); \
		code=$$?; PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -m support.store_table && exit $$code

simulate: $(STAMP) ## Run the operator under random schedules in virtual time; SEEDS=100000 FIRST=0 for more, SEED=4711 for one schedule
	@PYTHONPATH="$(CURDIR)/tests" "$(BIN)/python" -m simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST) \
		--workers $(if $(findstring file,$(origin WORKERS)),1,$(WORKERS))) $(ARGS)

simulate-mutations: $(STAMP) ## Remove each guard from the product in turn, and count the schedules that it takes to detect that; an hour
	@PYTHONPATH="$(CURDIR)/tests" "$(BIN)/python" -m simulation --mutations="$(ONLY)" --seeds 10000 --first $(FIRST) \
		--workers $(if $(findstring file,$(origin WORKERS)),1,$(WORKERS)) $(ARGS)

lint: $(STAMP) ## Check format, style, types, the direction of imports, and that crds/ is up to date
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/ruff" check .
	@"$(BIN)/mypy"
	@"$(BIN)/lint-imports" --no-cache
	@"$(BIN)/python" -m rollup_operator.model.crd --check

format: $(STAMP) ## Format the code, and fix what ruff can fix
	@"$(BIN)/ruff" format .
	@"$(BIN)/ruff" check --fix .

promtool: $(PROMTOOL) ## Build Prometheus' promtool, with which the alerts are tested; some minutes, once

$(PROMTOOL): deploy/local/go/promtool/go.mod deploy/local/go/promtool/go.sum
	@mkdir -p "$(@D)"
	cd deploy/local/go/promtool && CGO_ENABLED=0 GOWORK=off GOTOOLCHAIN=local GOFLAGS=-mod=readonly \
		go build -trimpath -ldflags '-s -w' -tags remove_all_sd,netgo -o "$@" github.com/prometheus/prometheus/cmd/promtool

generate: $(STAMP) ## Write crds/ from the typed model, and what of deploy/ follows from it and from the chart
	@"$(BIN)/python" -m rollup_operator.model.crd
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_manifests

bench: $(STAMP) api-server ## Measure stops, writes, memory and the speed of a run; some minutes
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" tests/bench/run.py $(ARGS)

bench-search: $(STAMP) api-server stores ## Measure searches next to bare ones, and stops beside them; ARGS="--search='--rows 10000000'" for more, see tests/bench/search_run.py
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" tests/bench/run.py --only search $(ARGS)

soak: $(STAMP) api-server ## Call an operator with 1,000 jobs for half an hour, and check that memory, files and tasks return to where they started; ARGS='--minutes 5' for less
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -m bench.soak $(ARGS)

bench-loop: $(STAMP) ## Measure how long each call holds the event loop at 10,000 jobs; some minutes
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -m bench.loop_holds $(ARGS)

bench-page: $(STAMP) ## Measure how long each page of the endpoint takes at 10,000 jobs
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -m bench.page_times $(ARGS)

bench-stores: $(STAMP) stores ## Measure runs and stops on a real node; ARGS='--rows 10000000' for more, see tests/bench/store_run.py
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" tests/bench/store_run.py $(ARGS)

bench-page-size: $(STAMP) stores ## Measure runs and stops by spec.pageSize, on a real node and an embedded store; 5 minutes, see tests/bench/page_sizes.py
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" tests/bench/page_sizes.py $(ARGS)

api-server: $(STAMP)
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_control_plane build etcd kube-apiserver >/dev/null

control-plane: $(STAMP) ## Fetch or build etcd, kube-apiserver, helm and kustomize, once (at most 12 minutes on 2 cores; cached in ~/.cache)
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_control_plane build etcd kube-apiserver helm kustomize >/dev/null

stores: $(STAMP) ## Fetch OpenSearch 2 and 3 and Elasticsearch 7, 8 and 9 for the tests, once (2 minutes; cached in ~/.cache)
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_stores build --optional >/dev/null

store-up: $(STAMP) ## Start a node, KIND=opensearch2 or another kind of deploy/local/README.md, and print its URL; the first time it is fetched
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_stores up $(KIND) $(ARGS)

store-down: $(STAMP) ## End that node
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_stores down $(KIND)

image: $(STAMP) ## Make the operator's image as an archive in dist/, without a container engine; ARGS='--arch arm64' for another machine
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m operator_image $(ARGS)

release: $(STAMP) ## Make what a release consists of, in dist/release: wheel, chart, CRDs, plugin, image, SBOM, checksums; ARGS='--url https://...'
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m operator_release $(ARGS)

node: $(STAMP) control-plane ## Build what else a Kubernetes node runs, once (5 to 10 minutes on 2 cores; cached in ~/.cache)
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_cluster build >/dev/null

node-packages: $(STAMP) ## Install containerd, runc and CNI plugins for it from the distribution (Debian or Ubuntu, root)
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_cluster install

e2e-cluster: $(STAMP) node stores ## Deploy on a real node as a user would, and see what pods go through (Linux, root; 5 minutes)
	@"$(BIN)/python" -m pytest tests/cluster $(ARGS)

chromium: $(STAMP) ## Install Chromium and its driver, for tests of the page, from the distribution (Debian or Ubuntu, root)
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_browser install

browser: $(STAMP) api-server chromium ## Test the page in Chromium; its screenshots are in .local/screenshots
	@"$(BIN)/python" -m pytest tests/browser --screenshots=.local/screenshots $(ARGS)

picture: $(STAMP) chromium ## Take the README's picture of the page, docs/page.png, with the data that `make up` has started
	@PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m rollup_demo picture

verdict: $(STAMP) ## Build kstatus and Flux's evaluator for the tests, once (1 to 3 minutes; cached in ~/.cache)
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -c 'from support.verdict import build; build()'

java-client: $(STAMP) ## Fetch Elasticsearch's Java client for the tests, and build a program with it, once (some seconds; cached in ~/.cache)
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -m support.java_client --optional >/dev/null

node-client: $(STAMP) ## Install Elasticsearch's JavaScript client for the tests, once (some seconds; cached in ~/.cache)
	@PYTHONPATH="$(SOURCES):$(CURDIR)/tests" "$(BIN)/python" -m support.node_client --optional >/dev/null

docs: $(STAMP) ## Write the documentation as a site to build/site
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/python" -m mkdocs build --quiet
	@echo 'docs: open build/site/index.html'

locks: ## Resolve the versions in requirements/ again (needs uv; add UPGRADE=--upgrade for the newest)
	$(LOCK) $(UPGRADE) --extra operator --extra aws --extra tracing pyproject.toml -o requirements/image.txt
	$(LOCK) $(UPGRADE) --extra operator pyproject.toml -c requirements/image.txt -o requirements/run.txt
	$(LOCK) $(UPGRADE) pyproject.toml -c requirements/image.txt -o requirements/plugin.txt
	$(LOCK) $(UPGRADE) --extra operator --extra aws --extra tracing pyproject.toml requirements/dev.in -c requirements/image.txt -o requirements/dev.txt
	$(LOCK) $(UPGRADE) --no-deps requirements/demo-data.in -o requirements/demo-data.txt
	for each in requirements/clients/*.in; do $(LOCK) $(UPGRADE) $$each -o $${each%.in}.txt || exit 1; done

clean: ## End what `make up` started; remove .venv, .venv-clients, .local and the caches in this folder
	@if [ -e .local ] && [ -e $(STAMP) ]; then PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m rollup_demo down; fi
	@if [ -e .local/stores ] && [ -e $(STAMP) ]; then for each in .local/stores/*; do \
		PYTHONPATH="$(SOURCES)" "$(BIN)/python" -m local_stores down "$${each##*/}"; done; fi
	@rm -rf $(VENV) .venv-clients .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name '*.egg-info' -type d -prune -exec rm -rf {} +

# One environment for all. Every package is checked against its hash; our own is installed in place, without a build
# environment of its own, which pip would fill with unchecked packages; no other is built at all but the flights.
PIP := "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --require-virtualenv

$(STAMP): $(PACKAGES) pyproject.toml
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(PACKAGES): requirements/dev.txt requirements/demo-data.txt
	@command -v "$(PYTHON)" >/dev/null || { \
		echo 'error: $(PYTHON): command not found; install Python 3.11 or newer, or say where it is: make PYTHON=/path/to/python3' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'error: $(PYTHON) is older than Python 3.11; install a newer one and name it: make PYTHON=python3.12' >&2; exit 1; }
	@echo 'environment: making $(VENV) with the packages of requirements/; 20 to 90 seconds on an idle machine, once'
	@"$(PYTHON)" -m venv --clear $(VENV) || { \
		echo 'error: $(PYTHON) -m venv failed; on Debian and Ubuntu install python3-venv first' >&2; exit 1; }
	@$(PIP) --require-hashes --only-binary :all: -r requirements/dev.txt
	@$(PIP) --require-hashes --no-deps --no-build-isolation -r requirements/demo-data.txt
	@touch $@
