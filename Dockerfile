# Two stages: build a static binary, ship nothing else.
ARG GO_VERSION=1.26.8
FROM golang:${GO_VERSION} AS build
ARG VERSION=dev
ARG TARGETOS=linux
ARG TARGETARCH=amd64
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /gatehouse ./cmd/gatehouse

FROM scratch
# Certificate authorities of the build image: providers are reached over https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gatehouse /gatehouse
# Not root, and it writes to no file: run it with a read-only root.
USER 65532:65532
EXPOSE 9000 8080 9090
ENTRYPOINT ["/gatehouse"]
CMD ["serve", "--config", "/etc/gatehouse/gatehouse.yaml"]
