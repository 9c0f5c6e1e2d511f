# mdclone's Makefile. `make` alone lists the targets. From a fresh clone on Debian 12 or 13, `make test` installs what it
# needs with apt and runs everything.
#
# Variables, given as in `make install PREFIX=/usr/local DESTDIR=/tmp/stage`:
#
#   GO             the Go command, version 1.24 or newer; also read from the environment. Default: go
#   VERSION        what --version says. Default: `git describe`, or the constant below where there is no repository
#   PREFIX         where the programs go (PREFIX/sbin; that of the rescue image, PREFIX/lib/mdclone), and a man page
#                  (PREFIX/share/man/man8). Default: /usr
#   DESTDIR        put before PREFIX by install and uninstall; for packagers. Default: empty
#   FUZZTIME       how long `make fuzz` stays with one Fuzz function, as in 30s or 2m; also read from the environment.
#                  Default: an equal share of ten minutes
#   VMTEST_RUN     which VM tests to run, a regular expression for go test -run. Default: all
#   VMTEST_LIMIT   `make vmtest` fails after this time. Default: 75m
#   SOAK           how often `make soak` repeats the VM tests. Default: 1
#   CUTS           power cuts that `make soak` makes on each kernel, and twice how many signals. Default: 100
#   ARGS           further arguments of `make demo` and `make bench`. Default: empty
#
# Read from the environment by what is called here:
#
#   MDCLONE_CACHE  what is built or downloaded once: linters, guest systems. Default: ~/.cache/mdclone
#   MDCLONE_SOAK   1 adds rare cases to the VM tests; `make soak` sets it
#   MDCLONE_*      choices of the VM tests, the demo and the benchmark: see the package comment in vmtest/

# Update together with NEWS.md.
RELEASE = 0.1.0

GO ?= go
PREFIX = /usr
VMTEST_RUN = .
VMTEST_LIMIT = 75m
SOAK = 1
CUTS = 100

# The early binary lives in the initramfs, and small is a promise: bytes, stripped.
EARLY_MAX = 3860000

# A fixed length for the hash, so that it does not depend on how much of the history a clone has.
VERSION := $(shell git describe --tags --match 'v[0-9]*' --always --abbrev=12 --dirty 2>/dev/null || echo $(RELEASE))

# The same commit and the same Go make the same bytes, whatever the directory. Nothing is inlined: that saves a twentieth.
GOBUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -gcflags=all=-l -ldflags '-s -w -buildid= -X main.version=$(VERSION)'
PROGRAMS = ./cmd/mdclone-early ./cmd/mdclone-gen ./cmd/mdclone-rescue

# Never download another Go behind the user's back.
export GOTOOLCHAIN = local
export GO FUZZTIME
# depmod and mke2fs make guests; on Debian, only root has them on PATH.
export PATH := $(PATH):/usr/sbin:/sbin

# The order of prerequisites is the order of work.
.NOTPARALLEL:
.PHONY: help build build-arm64 deps need-go check fmt fmt-check vet lint shellcheck unit arch tidy size fuzz vmtest test \
	soak demo bench install uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: need-go ## the programs, in bin/, static and reproducible
	$(GOBUILD) -o bin/ $(PROGRAMS)

build-arm64: need-go ## the same for arm64, in bin/arm64
	GOARCH=arm64 $(GOBUILD) -o bin/arm64/ $(PROGRAMS)

deps: ## install what is missing for all targets, with apt
	@.ci/deps

need-go:
	@.ci/need-go

check: fmt-check vet lint shellcheck unit arch tidy size ## everything but the VM tests

fmt: need-go ## put the Go code into shape
	.ci/golangci-lint fmt

fmt-check: need-go
	.ci/golangci-lint fmt --diff

vet: need-go
	$(GO) vet ./...
	$(GO) vet -tags vmtest ./...
	$(GO) vet -tags vmtest,soak ./vmtest

lint: need-go
	.ci/golangci-lint run --allow-serial-runners

shellcheck: ## every shell script of the tree
	.ci/shellcheck

unit: need-go ## the unit tests and the fuzz functions' seeds
	$(GO) test ./...

# 386 stands for every 32-bit machine: sizes of C structures and ioctl numbers differ there.
arch: need-go
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet -tags vmtest ./...
	GOARCH=386 CGO_ENABLED=0 $(GO) build ./...
	GOARCH=386 CGO_ENABLED=0 $(GO) vet -tags vmtest ./...

# If this fails: run `go mod tidy` and commit go.mod and go.sum.
tidy: need-go
	$(GO) mod tidy -diff

size: build
	@size=$$(wc -c <bin/mdclone-early); echo "bin/mdclone-early: $$size bytes, at most $(EARLY_MAX)"; \
		test "$$size" -le $(EARLY_MAX)

fuzz: need-go ## every Fuzz function for a while
	.ci/fuzz

# -p 1 lets go test print lines as they come. Guests wait for the kernel's timers much of their time, so there are more of them
# than processors.
vmtest: build ## the tests on real kernels, in QEMU
	.ci/vmtest -tags vmtest -count=1 -timeout $(VMTEST_LIMIT) -p 1 -parallel $$(($$(nproc) + 1)) -run '$(VMTEST_RUN)' ./vmtest/...

test: deps check vmtest ## all of it: deps, check, vmtest

soak: deps build ## the VM tests with the rarer cases and many power cuts; MDCLONE_SEED=N makes the same choices again
	MDCLONE_SOAK=1 MDCLONE_CUTS=$(CUTS) .ci/vmtest -tags vmtest,soak -count=$(SOAK) -timeout 0 -p 1 \
		-parallel $$(($$(nproc) + 1)) -run '$(VMTEST_RUN)' ./vmtest/...

demo: deps build ## the whole story in QEMU, to watch
	$(GO) run ./vmtest/demo $(ARGS)

bench: deps build ## how long a clone takes, in QEMU
	$(GO) run ./vmtest/bench $(ARGS)

# Only if they are not there: root, who installs, need not have Go.
bin/mdclone-early bin/mdclone-gen bin/mdclone-rescue:
	$(MAKE) build

install: bin/mdclone-early bin/mdclone-gen bin/mdclone-rescue ## the programs and their man page; then run mdclone-gen install
	install -d '$(DESTDIR)$(PREFIX)/sbin' '$(DESTDIR)$(PREFIX)/lib/mdclone'
	install -m 755 bin/mdclone-early bin/mdclone-gen '$(DESTDIR)$(PREFIX)/sbin'
	install -m 755 bin/mdclone-rescue '$(DESTDIR)$(PREFIX)/lib/mdclone'
	for page in docs/*.8; do \
		if [ -e "$$page" ]; then install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man8' "$$page" || exit 1; fi; \
	done

uninstall: ## run mdclone-gen uninstall first
	rm -f '$(DESTDIR)$(PREFIX)/sbin/mdclone-early' '$(DESTDIR)$(PREFIX)/sbin/mdclone-gen' \
		'$(DESTDIR)$(PREFIX)/lib/mdclone/mdclone-rescue'
	for page in docs/*.8; do rm -f "$(DESTDIR)$(PREFIX)/share/man/man8/$${page##*/}" || exit 1; done

clean: ## remove bin/
	rm -rf bin
