# `make demo` and `make test` set up everything they need; nothing is installed outside .venv.
PYTHON      ?= python3
# An index of PyTorch builds, for example one with CUDA; empty takes what pip finds.
TORCH_INDEX ?=
# Another copy of SUPPORT2, where the package index cannot be reached.
DATA        ?=
# Docker Compose, 2.24.4 or newer, and which S3 store it runs: seaweedfs or minio.
COMPOSE     ?= docker compose
STORE       ?= seaweedfs
# What `make up` builds first; empty takes images that are there already, for example from the offline bundle.
BUILD       ?= images
# `make down VOLUMES=1` removes keys, tables and results too.
VOLUMES     ?=
BIN         := .venv/bin
INSTALLED   := .venv/.installed
PEERS       := .venv-peers/.installed

.PHONY: help install demo demo-sgde demo-sgde-short demo-wire demo-short demo-wire-short demo-compose up down
.PHONY: test test-fast test-helm test-rules test-images test-compose faults servers images sbom bundle schema charts
.PHONY: lint format audit bench bench-step bench-scale bench-sgde bench-silofuse bench-silofuse-short bench-noised
.PHONY: peers clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make .venv with the pinned dependencies

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "silokit needs Python 3.11 or 3.12: set PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[evaluation,dev]'
	@touch $@

demo: $(INSTALLED) ## Run SiloFuse end to end on real clinical data: three silos, one coordinator
	$(BIN)/python -m deploy.demo $(if $(DATA),--data $(DATA))

demo-wire: $(INSTALLED) ## The same over RabbitMQ and an S3 store, started for it (needs `make servers`)
	$(BIN)/python -m deploy.demo --wire $(if $(DATA),--data $(DATA))

demo-sgde: $(INSTALLED) ## Twenty hospitals make a pool of private generators; one of them uses it
	$(BIN)/python -m deploy.demo.sgde $(if $(DATA),--data $(DATA))

demo-sgde-short: $(INSTALLED) ## The same with five hospitals
	$(BIN)/python -m deploy.demo.sgde --short $(if $(DATA),--data $(DATA))

demo-short: $(INSTALLED) ## The demo with little training
	$(BIN)/python -m deploy.demo --short $(if $(DATA),--data $(DATA))

demo-wire-short: $(INSTALLED) ## The same over RabbitMQ and an S3 store
	$(BIN)/python -m deploy.demo --wire --short $(if $(DATA),--data $(DATA))

test: $(INSTALLED) ## Run all tests; those that need a server say so where it is not installed
	$(BIN)/pytest -rs -n auto --dist loadfile --no-loadscope-reorder

servers: $(INSTALLED) ## Install the servers that tests on the wire start for themselves (Debian, as root)
	apt-get update -q && apt-get install -y -q --no-install-recommends rabbitmq-server prometheus prometheus-alertmanager openssl

test-rules: $(INSTALLED) ## Test metrics, dashboards and alerts against a real Prometheus (needs `make servers`)
	$(BIN)/pytest -rs tests/monitoring tests/services/test_metrics.py tests/services/test_health.py

images: ## Build both container images with docker, podman or buildah; TORCH_INDEX=... for CUDA
	deploy/images/build.sh

sbom: $(INSTALLED) ## Write what each built image consists of (CycloneDX) to build/
	$(BIN)/python -m deploy.images.sbom build

bundle: $(INSTALLED) images ## Pack everything for a machine without a network; BUNDLE_KEY=... signs it
	$(BIN)/python -m deploy.bundle $(if $(BUNDLE_KEY),--key $(BUNDLE_KEY))

test-images: $(INSTALLED) ## Build both images, look inside, run a federation of containers (docker or podman; minutes)
	IMAGES=1 $(BIN)/pytest -rs tests/images

up: $(INSTALLED) $(BUILD) ## Start the whole kit on this machine in containers: README, "On one machine, in containers"
	COMPOSE='$(COMPOSE)' STORE='$(STORE)' $(BIN)/python -m deploy.compose up $(if $(DATA),--data $(DATA))

demo-compose: $(INSTALLED) $(BUILD) ## The demo in those containers; SHORT=1 with little training
	COMPOSE='$(COMPOSE)' STORE='$(STORE)' $(BIN)/python -m deploy.compose demo $(if $(DATA),--data $(DATA)) $(if $(SHORT),--short)

down: $(INSTALLED) ## Stop the containers; VOLUMES=1 forgets everything that they kept
	COMPOSE='$(COMPOSE)' STORE='$(STORE)' $(BIN)/python -m deploy.compose down $(if $(VOLUMES),--volumes)

test-compose: $(INSTALLED) ## Read the compose files with the real Compose; found a kit, start its store
	$(BIN)/pytest -rs tests/compose

test-fast: $(INSTALLED) ## Run the tests that take seconds
	$(BIN)/pytest -m 'not slow' -n auto --dist loadfile --no-loadscope-reorder

faults: $(INSTALLED) ## Kill, cut, flood and forge at every point there is; takes much longer than `make test`
	FAULTS=all $(BIN)/pytest -rs -n auto --dist loadfile --no-loadscope-reorder tests/faults tests/programs/test_kill.py

test-helm: $(INSTALLED) ## Render both charts with Helm 3 and Helm 4, fetched for it, and look at every object
	$(BIN)/pytest -rs -n auto --dist loadfile --no-loadscope-reorder tests/helm

schema: $(INSTALLED) ## Make anew what the charts take from the programs' models and from deploy/monitoring
	$(BIN)/python -m deploy.tools.charts schema

charts: $(INSTALLED) ## Pack both charts into dist/, for `helm install`
	$(BIN)/python -m deploy.tools.charts dist

lint: $(INSTALLED) ## Check style, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(INSTALLED) ## Attack every private path, and print what it proves beside what is claimed
	$(BIN)/python -m tests.audit

bench: $(INSTALLED) bench-step ## Measure sealing, store, coordinator, pool and private steps (needs `make servers`)
	$(BIN)/python -m tests.benchmarks.bench_seal
	$(BIN)/python -m tests.benchmarks.bench_store
	$(BIN)/python -m tests.benchmarks.bench_coordinator
	$(BIN)/python -m tests.benchmarks.bench_pool

bench-step: $(INSTALLED) ## Measure private training steps beside plain ones and those of Opacus
	$(BIN)/python -m tests.benchmarks.bench_step

bench-scale: $(INSTALLED) ## Measure how SiloFuse grows with rows, columns and silos (an hour and 4 GiB of disk; build/scale-*.json)
	$(BIN)/python -m tests.benchmarks.bench_scale --rows 10000 100000 1000000
	$(BIN)/python -m tests.benchmarks.bench_scale --rows 20000 --columns 25 50 100 200
	$(BIN)/python -m tests.benchmarks.bench_scale --rows 20000 --silos 2 4 8 16

bench-sgde: $(INSTALLED) ## Measure a pool of private generators (DATA=folder of the tables; without it Breast Cancer alone)
	$(BIN)/python -m tests.benchmarks.bench_sgde $(if $(DATA),--data $(DATA))

bench-silofuse: $(INSTALLED) $(PEERS) ## How good, how fast, compared with what (DATA=folder of the tables; an hour; goes on where it stopped)
	$(BIN)/python -m tests.benchmarks.silofuse $(if $(DATA),--data $(DATA))

bench-silofuse-short: $(INSTALLED) ## The same with little training, without peers: two minutes
	$(BIN)/python -m tests.benchmarks.silofuse --short

peers: $(PEERS) ## Make .venv-peers with SDV (CTGAN, TVAE), which the benchmark of SiloFuse compares with

$(PEERS): tests/benchmarks/silofuse/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install -q -c constraints.txt --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	.venv-peers/bin/pip install -q -r tests/benchmarks/silofuse/peers.txt
	@touch $@

bench-noised: $(INSTALLED) ## Measure what a claim about uploaded rows costs (DATA=folder of the tables; without it SUPPORT2 alone)
	$(BIN)/python -m tests.benchmarks.bench_noised $(if $(DATA),--data $(DATA))

clean: ## Remove everything that was made here
	rm -rf .venv .venv-peers demo demo-sgde .cache build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
