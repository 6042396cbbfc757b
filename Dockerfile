# The four services as images: docker build --target error-tracker --tag monlight/error-tracker .
# `make image` builds all of them, also where the images that compile cannot be had.
ARG NODE_IMAGE=node:22-bookworm-slim
ARG RUST_IMAGE=rust:1.91-bookworm

# The web interfaces, the browser package and the OpenAPI documents, as the programs carry them inside.
FROM ${NODE_IMAGE} AS interfaces
WORKDIR /src
COPY sdk/js/package.json sdk/js/package-lock.json sdk/js/
COPY static/package.json static/package-lock.json static/
RUN for folder in sdk/js static; do (cd $folder && npm ci --no-audit --no-fund --loglevel error) || exit 1; done
COPY sdk/js sdk/js
COPY static static
COPY openapi openapi
COPY Cargo.toml ./
RUN for folder in sdk/js static; do (cd $folder && npm run --silent build) || exit 1; done

FROM ${RUST_IMAGE} AS builder
WORKDIR /src
# Static, so that an image needs nothing else. Without --target the flag would reach proc macros, which cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
# What others wrote is compiled first, with nothing of ours, so that it stays as long as Cargo.lock does.
RUN mkdir src bins && touch src/lib.rs && \
    for service in browser-relay error-tracker log-viewer metrics-collector; do \
        echo 'fn main() {}' >bins/$service.rs; \
    done && \
    cargo build --release --locked --bins --target "$(rustc -vV | sed -n 's/^host: //p')"
COPY src src
COPY bins bins
COPY sql sql
COPY --from=interfaces /src/static/dist static/dist
# The files of the step before are newer than these.
RUN find src bins -name '*.rs' -exec touch {} + && \
    host="$(rustc -vV | sed -n 's/^host: //p')" && \
    cargo build --release --locked --bins --target "$host" && \
    mkdir /out && \
    for service in browser-relay error-tracker log-viewer metrics-collector; do \
        cp "target/$host/release/$service" /out/; \
    done

# What all images have. Docker makes a volume that is empty root's, and deployed ones are root's already; `user:` takes
# whoever owns yours. Mozilla's roots are inside the programs, and large bodies wait in the data's folder, so there is no
# file besides the program and nothing to write to besides the volume.
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
    org.opencontainers.image.description="Exceptions in, grouped by fingerprint, reopened on recurrence, alerts out" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS log-viewer
COPY --from=builder /out/log-viewer /app/log-viewer
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/log-viewer", "--healthcheck"]
ENTRYPOINT ["/app/log-viewer"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight log viewer" \
    org.opencontainers.image.description="What containers say: followed, searched, shown live" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS metrics-collector
COPY --from=builder /out/metrics-collector /app/metrics-collector
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/metrics-collector", "--healthcheck"]
ENTRYPOINT ["/app/metrics-collector"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight metrics collector" \
    org.opencontainers.image.description="Counters, gauges and histograms in, rollups with percentiles out" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS browser-relay
COPY --from=builder /out/browser-relay /app/browser-relay
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/browser-relay", "--healthcheck"]
ENTRYPOINT ["/app/browser-relay"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Monlight browser relay" \
    org.opencontainers.image.description="The public door for browsers: keys, origins, limits, source maps" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
