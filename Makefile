# Everything from python3 and make alone. `make help` lists what there is.

PYTHON ?= python3
WORKERS ?= 1
PY := .venv/bin/python
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test check generate migrate backup restore plots demo token bench bench-compare soak acceptance reset doctor simulate fuzz audit test-sdks test-system \
        lock release clean run-environment dev-environment

# -I keeps the folder of the script out of the module path: sandbox/token.py is not the standard library's `token`.
BOOTSTRAP = @command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here: install Python 3.11 to 3.13, or say make PYTHON=..." >&2; exit 1; }; \
	$(PYTHON) -I sandbox/bootstrap.py

help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: run-environment ## Start everything: database, cache, Tempo dev chain, server. Ctrl-C stops it (WORKERS=2: more API processes)
	@exec $(PY) -m sandbox.run --workers $(WORKERS)

test: dev-environment ## The test suite, against real programs on free ports (ARGS="-k name": a part of it)
	$(PY) -m pytest -m "not system and not sdk" $(ARGS)

check: dev-environment ## Static checks: style, types, import contracts, the proto contract, generated code, migrations
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	@$(PY) proto/generate.py --third-party
	.venv/bin/buf lint proto
	.venv/bin/buf format proto --diff --exit-code
	@$(call later,proto/released.binpb,.venv/bin/buf breaking proto --against proto/released.binpb)
	@$(PY) -m sandbox.schema_check
	@before="$$($(GENERATED_DIGEST))"; $(PY) proto/generate.py && if [ "$$before" != "$$($(GENERATED_DIGEST))" ]; then \
		echo "make check: generated code did not match proto/; it does now: commit it" >&2; exit 1; fi

generate: dev-environment ## Generate code from proto/ (Python, Go, TypeScript)
	@$(PY) proto/generate.py

migrate: run-environment ## Bring the database of DATABASE_OWNER_URL or DATABASE_URL to the newest schema
	@$(PY) -m storage.migrations upgrade

backup: run-environment ## Back up the database of DATABASE_OWNER_URL, DATABASE_URL or `make run` (FILE=wallet.backup)
	@$(OWNER_URL) $(PY) -m storage.backups make $(or $(FILE),wallet.backup)

restore: run-environment ## Make a new database out of a backup (FILE=wallet.backup DATABASE=name); docs/runbook.md has the rest
	@test -n "$(DATABASE)" || { echo "make restore: name the new database: DATABASE=..." >&2; exit 2; }
	@$(OWNER_URL) $(PY) -m storage.backups restore $(or $(FILE),wallet.backup) --database $(DATABASE)
OWNER_URL = DATABASE_OWNER_URL="$${DATABASE_OWNER_URL:-$${DATABASE_URL:-$$($(PY) -m sandbox.endpoints database_url)}}"

demo: run-environment ## Tell the story of the wallet against the servers of `make run`, with live figures
	@$(PY) -m sandbox.demo $(ARGS)

token: run-environment ## A development token: CONSUMER=id, SERVICE=name or OPERATOR=name; SCOPE="wallet:read ..."
	@$(PY) -m sandbox.token $(if $(CONSUMER),--consumer $(CONSUMER)) $(if $(SERVICE),--service $(SERVICE)) \
		$(if $(OPERATOR),--operator $(OPERATOR)) $(if $(SCOPE),--scope "$(SCOPE)")

bench: dev-environment ## Measure transfers and settlement against pgbench on the same database
	@$(PY) -m benchmarks $(ARGS)

soak: run-environment ## Mixed load with faults against the servers of `make run` (MINUTES=30)
	@$(PY) -m benchmarks.soak --minutes $(or $(MINUTES),30) $(ARGS)

bench-compare: dev-environment ## This server and an earlier one in turns (BASE=revision)
	@test -n "$(BASE)" || { echo "make bench-compare: say which revision: BASE=..." >&2; exit 2; }
	@$(PY) -m benchmarks.compare $(BASE) $(ARGS)

acceptance: run-environment ## The guide's criteria, measured against the wallet of `make run`, or ARGS="--target host:port"
	@$(PY) -m sandbox.acceptance $(ARGS)

fuzz: dev-environment ## Call every rpc with made-up input, good and bad (SEED=n, CALLS=n)
	@FUZZ_SEED=$(or $(SEED),1) FUZZ_CALLS=$(or $(CALLS),30000) $(PY) -m pytest -q tests/server/test_fuzzing.py $(ARGS)

audit: dev-environment ## Known holes in dependencies, insecure code, secrets in files
	@$(PY) -m sandbox.audit $(ARGS)

plots: dev-environment ## Pictures of the dashboards into docs/images, from the wallet of `make run` under a real Prometheus
	@$(PY) -m benchmarks.dashboards $(ARGS)

simulate: dev-environment ## Play settlement under random histories and faults (SEEDS=1 SEED_START=n: one of them again)
	@$(PY) -m tests.simulation --seeds $(or $(SEEDS),200) --start $(or $(SEED_START),0) $(ARGS)

test-sdks: dev-environment ## Build every SDK whose toolchain is here, and try it as its users would (REQUIRE_ALL=1: all)
	$(PY) -m pytest tests/sdks $(ARGS)

test-system: dev-environment ## The long tests over whole systems of processes: crashes, restarts, cut connections
	$(PY) -m pytest -m system $(ARGS)

doctor: ## What this machine has and lacks
	@$(PYTHON) -I sandbox/doctor.py

reset: ## Remove the database, the chain and the keys of `make run`, together
	@if [ -x $(PY) ]; then $(PY) -m sandbox.reset; else rm -rf .data; fi

lock: dev-environment ## Resolve the dependencies of pyproject.toml into deploy/locks (ARGS=--upgrade: newest versions)
	.venv/bin/uv pip compile $(LOCK_OPTIONS) --extra sandbox -o deploy/locks/run.txt
	.venv/bin/uv pip compile $(LOCK_OPTIONS) -c deploy/locks/run.txt -o deploy/locks/server.txt
	.venv/bin/uv pip compile $(LOCK_OPTIONS) --extra sandbox --extra dev -c deploy/locks/run.txt -o deploy/locks/dev.txt
LOCK_OPTIONS = pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-package monay-wallet --no-annotate --custom-compile-command "make lock" $(ARGS)

release: dev-environment ## Declare the present contract released: what `make check` compares later ones against
	.venv/bin/buf build proto -o proto/released.binpb

clean: ## Remove what make made, except .data
	rm -rf .venv third_party build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

run-environment:
	$(BOOTSTRAP) run

dev-environment:
	$(BOOTSTRAP) dev

GENERATED_DIGEST = find clients/python/src/monay/wallet/v1 clients/python/src/buf clients/go clients/typescript/src docs/errors.md -type f \
	! -name '*.pyc' | sort | xargs sha256sum | sha256sum

# $(call later,PATH,COMMAND): run the command, or say plainly that what it would run is not there yet.
later = if [ -e $(1) ]; then $(2); else echo "make $@: nothing to run yet, there is no $(1)"; fi
