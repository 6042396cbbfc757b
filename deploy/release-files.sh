#!/bin/sh
# Collects the files of a release in the folder $1: the four programs that `make` built, their software bill of materials,
# and the checksums of all of them.
set -eu
cd "$(dirname "$0")/.."

[ $# = 1 ] || {
    echo "Usage: deploy/release-files.sh FOLDER" >&2
    exit 2
}
folder=$1
[ ! -e "$folder" ] || {
    echo "$folder already exists" >&2
    exit 1
}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$folder"
for service in error-tracker log-viewer metrics-collector browser-relay; do
    cp "$service" "$folder/monlight-$service-$version-$target"
done
node deploy/sbom.mjs >"$folder/monlight-$version.cdx.json"
cd "$folder"
sums=$(sha256sum -- *)
printf '%s\n' "$sums" >SHA256SUMS
