# Everything a developer runs. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
.DEFAULT_GOAL := check

TOOLS := $(CURDIR)/.tools
BIN := $(TOOLS)/bin
export PATH := $(BIN):$(PATH)
export GOTOOLCHAIN := local

# Tools are pinned here and stay out of go.mod.
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PROTOC_GEN_GO := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
BUF := @bufbuild/buf@1.75.0
ENVOY := 1.40.0
FUZZTIME := 60s
PORT := 10000
CHECK :=

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: ## Build bin/gatehouse, a static binary.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/gatehouse ./cmd/gatehouse

.PHONY: demo
demo: build ## Show everything working on this machine; CHECK=1 tries it and exits, PORT=n picks the port.
	@e2e/tools.sh envoy $(ENVOY)
	@go build -o bin/demo ./cmd/demo
	@exec bin/demo -port $(PORT) -envoy .tools/envoy/$(ENVOY)/envoy -gatehouse bin/gatehouse $(if $(CHECK),-check)

.PHONY: check
check: lint unit ## Lint and unit tests: what to run before a commit.

.PHONY: test
test: lint unit e2e ## Everything: lint, unit and integration tests with the race detector, end-to-end tests.

.PHONY: unit
unit: ## Unit and integration tests with the race detector. redis-server is installed when it can be.
	e2e/tools.sh redis
	e2e/tools.sh envoy $(ENVOY)
	go test -race ./...

.PHONY: e2e
e2e: ## End-to-end tests: real Envoy, Redis, providers and browser; the manifests.
	e2e/tools.sh all
	cd manifests && go test -count=1 ./...
	cd e2e && go test -count=1 -timeout 20m ./...

.PHONY: e2e-traefik
e2e-traefik: ## Forward auth behind a real Traefik. It is built first, which takes ten minutes, once.
	e2e/tools.sh traefik
	cd e2e && go test -count=1 -tags traefik -run '^TestETraefik$$' .

.PHONY: lint
lint: tools ## Generated files are current, formatting, vet, static analysis.
	@$(MAKE) --no-print-directory generate-check
	@test -z "$$(gofumpt -l $$(git ls-files '*.go' ':!*.pb.go'))" || { gofumpt -d $$(git ls-files '*.go' ':!*.pb.go'); exit 1; }
	go vet ./...
	cd e2e && go vet ./... && go vet -tags traefik ./...
	cd manifests && go vet ./...
	staticcheck ./...
	golangci-lint run ./...

.PHONY: generate
generate: tools ## Write generated files anew.
	proto/generate.sh
	go generate ./...

.PHONY: generate-check
generate-check: tools ## Fail when generated files are not current.
	@before=$$(git status --porcelain; git diff | sha256sum); proto/generate.sh; go generate ./...; \
	after=$$(git status --porcelain; git diff | sha256sum); \
	test "$$before" = "$$after" || { git diff --stat; echo 'generated files are not current: run `make generate` and commit'; exit 1; }

.PHONY: fmt
fmt: tools ## Format the code.
	gofumpt -w $$(git ls-files '*.go' ':!*.pb.go')

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60s).
	@go list ./... | while read -r pkg; do \
		for f in $$(go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
		done; done

.PHONY: bench
bench: ## Run the benchmarks.
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: image
image: ## Build the container image with buildah or docker, whichever is here.
	@if command -v buildah >/dev/null; then buildah bud -t gatehouse:$(VERSION) --build-arg VERSION=$(VERSION) .; \
	else docker build -t gatehouse:$(VERSION) --build-arg VERSION=$(VERSION) .; fi

.PHONY: tools
tools: $(BIN)/.gofumpt $(BIN)/.staticcheck $(BIN)/.golangci $(BIN)/.protoc-gen-go $(BIN)/.protoc-gen-go-grpc $(BIN)/.buf ## Install the pinned tools into .tools.

# A stamp per tool that names its version: a new pin installs anew.
define tool
$(BIN)/.$(1): Makefile
	@mkdir -p $(BIN)
	@grep -qsx '$(2)' $$@ || { echo 'installing $(2)'; GOBIN=$(BIN) go install $(2); }
	@echo '$(2)' > $$@
endef
$(eval $(call tool,gofumpt,$(GOFUMPT)))
$(eval $(call tool,staticcheck,$(STATICCHECK)))
$(eval $(call tool,golangci,$(GOLANGCI)))
$(eval $(call tool,protoc-gen-go,$(PROTOC_GEN_GO)))
$(eval $(call tool,protoc-gen-go-grpc,$(PROTOC_GEN_GO_GRPC)))

# From npm: the binary, where compiling it takes minutes.
$(BIN)/.buf: Makefile
	@mkdir -p $(BIN)
	@grep -qsx '$(BUF)' $@ || { echo 'installing $(BUF)'; npm install --silent --no-audit --no-fund --prefix $(TOOLS)/npm '$(BUF)'; }
	@ln -sf ../npm/node_modules/.bin/buf $(BIN)/buf
	@echo '$(BUF)' > $@

.PHONY: clean
clean: ## Remove what was built; .tools stays.
	rm -rf bin
