# An index of verbs. A newcomer needs two: make run, make test.

GO      ?= go
DATA    ?= ./skep-data
HTTP    ?= 127.0.0.1:7420
FUZZ    ?= 10s
TOOL    := $(GO) tool -modfile=tools/go.mod
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: run build test e2e lint fmt fuzz conformance kdl-suite model bench update proto clean

run: build ## start a server on its embedded default; it prints how to push
	./bin/skep serve --data $(DATA) --http $(HTTP)

build: ## bin/skep, without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/skep ./cmd/skep

test: ## everything, with the race detector where there is a C compiler
	scripts/test ./...

e2e: ## only the end-to-end scripts: the real binary and real git
	$(GO) test -count=1 ./e2e/...

lint: ## what .ci/run checks besides the tests
	$(GO) vet ./...
	$(TOOL) golangci-lint fmt --diff
	$(TOOL) golangci-lint run

fmt: ## format the tree
	$(TOOL) golangci-lint fmt

fuzz: ## every fuzz target for FUZZ (10s) each
	scripts/fuzz $(FUZZ)

conformance: build ## git's own test suite against bin/skep, with C git beside it; GIT_SRC: another git than Debian's, DIR: where it is built, ONLY: some files
	$(GO) run ./scripts/conformance -skep bin/skep $(if $(GIT_SRC),-src $(GIT_SRC)) $(if $(DIR),-dir $(DIR)) $(if $(ONLY),-only $(ONLY))

kdl-suite: ## the KDL project's own test cases: DIR is a clone of github.com/kdl-org/kdl with its branches
	scripts/kdl-suite $(DIR)

model: ## how copies of a configuration merge, in every order of a few operations; needs spin
	scripts/model

bench: ## benchmarks, as benchstat reads them
	$(GO) test -run '^$$' -bench . -benchmem ./internal/git/...

update: ## rewrite what is generated: the package table, the module list, golden files, docs/reference, the list of metrics
	$(GO) test ./internal/tidy ./internal/server ./internal/policy ./internal/node ./cmd/skep \
		-run 'TestReference|TestOperations|TestArchitecture|TestModules|TestMetricsAreDocumented' -update

proto: ## what is generated from proto/: needs protoc (Debian: protobuf-compiler)
	mkdir -p bin/tools
	cd tools && GOBIN=$(CURDIR)/bin/tools $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	PATH="$(CURDIR)/bin/tools:$$PATH" protoc --proto_path=proto --go_out=. --go_opt=module=github.com/skep-dev/skep \
		--connect-go_out=. --connect-go_opt=module=github.com/skep-dev/skep,simple=true,package_suffix= proto/conflux/v1/conflux.proto
	sha256sum proto/conflux/v1/*.proto internal/config/rpc/confluxv1/conflux.*.go >internal/config/rpc/confluxv1/generated.sha256

clean:
	rm -rf bin
