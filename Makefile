# What `make test` needs beyond Go is installed by scripts/deps.sh, which says what it installs.

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME   ?= 10s
CASES      ?= 20000
GOLANGCI   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# What runs without the race detector, which makes it up to eight times as slow and would find nothing in it: packages
# that start no goroutine; and of others simulations of days by a clock of their own, and tests in which one goroutine
# fills something or measures its size. TestSerial looks that each of them is in a package of SERIAL_IN.
SERIAL       := config|internal/words|wechat
SERIAL_TESTS := TestModel|TestDay|TestHonestSendsNeverTrip|TestExpiredWindowsAreDropped|TestLostClearOfYesterday|TestWindowsWhereClocksChange|TestListBounded|TestBounded|TestWhatIsRememberedIsBounded|TestLogEnd|TestStores|TestWhatItTakes|TestWhatTheFileTakes|TestLearnedDeadAllTheTime|TestDamagedFiles|TestFileIsSwept
SERIAL_IN    := ./limits ./alert ./proxy/fuse ./drift ./doctor ./history ./store ./token

# Where scripts/deps.sh unpacks redis-server when it may not install it.
export PATH := $(CURDIR)/.cache/deps/usr/bin:$(PATH)

.PHONY: build test quick race program check lint bench bench-compare fuzz soak screenshots demo deps clean

build:
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/wxproxy ./cmd/wxproxy

# The one test command: everything that has to hold before a change goes in.
test:
	@echo 'make test: gofmt, vet, golangci-lint, and all tests, with the race detector where it sees the code. 10 to 13 minutes on'
	@echo 'two idle cores, and up to 10 more the first time, for what is installed and for compiling the linter. In a hurry: make quick'
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory -j 3 program race lint

# Most packages wait more than they work, so they run beside each other, the longest first.
#
# Tests that drive the built program skip themselves under the race detector, which would look only at the test. They
# and what is SERIAL run without it. go vet is left to check.
race:
	go test -race -vet=off -shuffle=on -timeout 25m -skip '^($(SERIAL_TESTS))$$' \
		$$(go list ./... | grep -vxE 'wxproxy/($(SERIAL))')

program:
	go test -vet=off -shuffle=on -timeout 25m ./internal/faults ./cmd/wxproxy $(addprefix ./,$(subst |, ,$(SERIAL)))
	go test -vet=off -run '^($(SERIAL_TESTS))$$' $(SERIAL_IN)

# What can be told within 90 seconds. It installs nothing, and says what it left out.
quick: check
	@scripts/quick.sh

check:
	@unformatted=$$(gofmt -l .) && \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...

# The linter reads only what is not newer than the Go it was built with, so it is built with the one
# that builds this module.
lint:
	GOTOOLCHAIN=$$(go env GOVERSION | cut -d ' ' -f 1) go run $(GOLANGCI) run ./...

# Writes docs/benchmarks.md; installs what it needs and says so. BENCHFLAGS=-help tells its flags.
bench:
	go run ./bench $(BENCHFLAGS)

# The Go benchmarks of limits and proxy at a commit and now.
bench-compare:
	@bench/compare.sh $(BASE)

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

# The model of gateways, store and WeChat, and the answers that break, with many more cases than make test runs.
soak:
	WXPROXY_MODEL_CASES=$(CASES) go test -run '^TestModel$$' -count 1 -timeout 60m ./limits
	WXPROXY_TORTURE_CALLS=50000 go test -race -run '^TestTorture$$' -count 1 -timeout 60m -v ./proxy

# Pictures of all pages in both themes and languages, from calls through two gateways to the sandbox: into
# .cache/screenshots, and those of the README into docs/img. It needs chromium and a font with Chinese. Some minutes.
screenshots:
	go test ./cmd/wxproxy -run '^TestScreenshots$$' -count 1 -timeout 20m -screenshots .cache/screenshots

demo:
	go run ./cmd/wxproxy demo

deps:
	@scripts/deps.sh

clean:
	rm -rf bin .cache
