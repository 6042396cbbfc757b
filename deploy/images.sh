#!/bin/sh
# Builds the Docker images of the four services, starts each image once and prints its size. If the images with the
# compilers cannot be pulled, or with BINARIES=here, packages the binaries in the repository root instead of compiling.
# MONLIGHT_IMAGES is the name prefix of the images.
set -eu
cd "$(dirname "$0")/.."

services="error-tracker log-viewer metrics-collector browser-relay"
prefix=${MONLIGHT_IMAGES:-monlight}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null) || revision=
size_bytes_max=10000000
binaries=${BINARIES:-compiled}

# Prints the default value of an ARG in the Dockerfile.
read_dockerfile_arg() {
    sed -n "s/^ARG $1=//p" Dockerfile | head -n 1
}
# Pulls an image unless it is present; fails if it cannot be pulled.
ensure_image() {
    docker image inspect "$1" >/dev/null 2>&1 || docker pull "$1"
}
case $binaries in
compiled)
    if ! ensure_image "$(read_dockerfile_arg NODE_IMAGE)" || ! ensure_image "$(read_dockerfile_arg RUST_IMAGE)"; then
        echo "cannot pull the images with the compilers; using the binaries in the repository root" >&2
        binaries=here
    fi
    ;;
here) ;;
*)
    echo "BINARIES must be 'compiled' or 'here', not '$binaries'" >&2
    exit 2
    ;;
esac

# Prints the Dockerfile. With BINARIES=here a stage that copies the existing binaries replaces all stages that compile:
# Docker without BuildKit builds every stage before the requested one, so they must not be present.
print_dockerfile() {
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
            echo "binary $service not found; build it first: make" >&2
            exit 1
        }
    done
fi
for service in $services; do
    image=$prefix/$service
    print_dockerfile | docker build --quiet --file - --target "$service" --tag "$image:$version" --tag "$image:latest" \
        --build-arg "VERSION=$version" --build-arg "REVISION=$revision" . >/dev/null
    # The image has no shared libraries, so a binary that is not static fails here.
    docker run --rm --network none "$image:$version" --version >/dev/null
    size_bytes=$(docker image inspect --format '{{.Size}}' "$image:$version")
    printf '%-32s %s.%s MB\n' "$image:$version" $((size_bytes / 1000000)) $((size_bytes / 100000 % 10))
    if [ "$size_bytes" -ge $size_bytes_max ]; then
        echo "$image failed the size check: it is larger than $((size_bytes_max / 1000000)) MB" >&2
        exit 1
    fi
done
