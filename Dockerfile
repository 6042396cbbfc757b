# Images of the four services, one target each: docker build --target error-tracker --tag monlight/error-tracker .
# `make image` builds all of them. If the images with the compilers cannot be pulled, it packages existing binaries.
# The images are pinned by digest; Dependabot proposes new ones.
ARG NODE_IMAGE=node:22-bookworm-slim@sha256:43ac6c60b8f89723f746e8a92ce91abd5017e627ce1ddfe4238355d3a30b772c
ARG RUST_IMAGE=rust:1.91-bookworm@sha256:c1e5f19e773b7878c3f7a805dd00a495e747acbdc76fb2337a4ebf0418896b33

# Builds the web interfaces, the browser SDK and the OpenAPI documents, which the binaries embed.
FROM ${NODE_IMAGE} AS interfaces
WORKDIR /src
COPY sdk/js/package.json sdk/js/package-lock.json sdk/js/
COPY static/package.json static/package-lock.json static/
RUN for folder in sdk/js static; do (cd $folder && npm ci --ignore-scripts --no-audit --no-fund --loglevel error) || exit 1; done
COPY sdk/js sdk/js
COPY static static
COPY openapi openapi
COPY Cargo.toml ./
RUN for folder in sdk/js static; do (cd $folder && npm run --silent build) || exit 1; done

FROM ${RUST_IMAGE} AS builder
WORKDIR /src
# Link statically, because the final image contains no libraries. The builds pass --target, because without it the flag
# would also apply to proc macros, which must be dynamic libraries.
ENV RUSTFLAGS="-C target-feature=+crt-static"
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
# Compile the dependencies first, with empty sources, so that Docker caches this layer until Cargo.toml or Cargo.lock
# changes.
RUN mkdir src bins && touch src/lib.rs && \
    for service in browser-relay error-tracker log-viewer metrics-collector; do \
        echo 'fn main() {}' >bins/$service.rs; \
    done && \
    cargo build --release --locked --bins --target "$(rustc -vV | sed -n 's/^host: //p')"
COPY src src
COPY bins bins
COPY sql sql
COPY --from=interfaces /src/static/dist static/dist
# The empty sources have newer modification times than the copied ones, so Cargo would not rebuild.
RUN find src bins -name '*.rs' -exec touch {} + && \
    host="$(rustc -vV | sed -n 's/^host: //p')" && \
    cargo build --release --locked --bins --target "$host" && \
    mkdir /out && \
    for service in browser-relay error-tracker log-viewer metrics-collector; do \
        cp "target/$host/release/$service" /out/; \
    done

# Common base of all images. They run as root, which owns new and existing volumes; set `user:` if another user owns
# yours. An image contains only the binary and writes only to the volume: the binary embeds Mozilla's root certificates
# and buffers large request bodies in the data folder.
FROM scratch AS runtime
WORKDIR /app
ENV PORT=8000
EXPOSE 8000
VOLUME /app/data
LABEL org.opencontainers.image.source="https://github.com/mattmezza/monlight" \
    org.opencontainers.image.licenses="MIT"

FROM runtime AS error-tracker
COPY --from=builder /out/error-tracker /app/error-tracker
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/error-tracker", "--healthcheck"]
ENTRYPOINT ["/app/error-tracker"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight error tracker" \
    org.opencontainers.image.description="Groups exceptions, reopens regressions, sends alerts by email and webhook" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS log-viewer
COPY --from=builder /out/log-viewer /app/log-viewer
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/log-viewer", "--healthcheck"]
ENTRYPOINT ["/app/log-viewer"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight log viewer" \
    org.opencontainers.image.description="Reads container logs; full-text search and live tail" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS metrics-collector
COPY --from=builder /out/metrics-collector /app/metrics-collector
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/metrics-collector", "--healthcheck"]
ENTRYPOINT ["/app/metrics-collector"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight metrics collector" \
    org.opencontainers.image.description="Counters, gauges and histograms; rollups with percentiles; dashboards" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS browser-relay
COPY --from=builder /out/browser-relay /app/browser-relay
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/browser-relay", "--healthcheck"]
ENTRYPOINT ["/app/browser-relay"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight browser relay" \
    org.opencontainers.image.description="Public ingest endpoint for browsers; resolves minified stack traces with source maps" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
