#!/bin/sh
# Builds the images of the four services, says how large they are, and starts each once to see that it does. Where the
# images that compile cannot be had, those binaries go in that lie at the top of the checkout: BINARIES=here goes for
# them at once. MONLIGHT_IMAGES is what stands before their names.
set -eu
cd "$(dirname "$0")/.."

services="error-tracker log-viewer metrics-collector browser-relay"
prefix=${MONLIGHT_IMAGES:-monlight}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null) || revision=
size_bytes_max=10000000
binaries=${BINARIES:-compiled}

# The default of an ARG of the Dockerfile.
default() {
    sed -n "s/^ARG $1=//p" Dockerfile | head -n 1
}
# Whether an image is here or can be had.
there() {
    docker image inspect "$1" >/dev/null 2>&1 || docker pull "$1"
}
case $binaries in
compiled)
    if ! there "$(default NODE_IMAGE)" || ! there "$(default RUST_IMAGE)"; then
        echo "The images that compile cannot be had; taking the binaries that lie here instead" >&2
        binaries=here
    fi
    ;;
here) ;;
*)
    echo "BINARIES is compiled or here, not $binaries" >&2
    exit 2
    ;;
esac

# The Dockerfile as it is; or with the binaries that lie here in the place of everything that compiles. Docker without
# BuildKit builds every stage above the one it is asked for, so these must be gone.
dockerfile() {
    if [ "$binaries" = compiled ]; then
        cat Dockerfile
    else
        printf 'FROM scratch AS builder\nCOPY %s /out/\n' "$services"
        sed -n '/^FROM scratch/,$p' Dockerfile
    fi
}
if [ "$binaries" = here ]; then
    for service in $services; do
        [ -x "$service" ] || {
            echo "$service is not here: make" >&2
            exit 1
        }
    done
fi
for service in $services; do
    image=$prefix/$service
    dockerfile | docker build --quiet --file - --target "$service" --tag "$image:$version" --tag "$image:latest" \
        --build-arg "VERSION=$version" --build-arg "REVISION=$revision" . >/dev/null
    # A binary that is not static would not start in an image that has nothing else.
    docker run --rm --network none "$image:$version" --version >/dev/null
    size_bytes=$(docker image inspect --format '{{.Size}}' "$image:$version")
    printf '%-32s %s.%s MB\n' "$image:$version" $((size_bytes / 1000000)) $((size_bytes / 100000 % 10))
    if [ "$size_bytes" -ge $size_bytes_max ]; then
        echo "$image is larger than $((size_bytes_max / 1000000)) MB" >&2
        exit 1
    fi
done
