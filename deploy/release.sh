#!/bin/sh
# Releases the four services, which share one version, or an SDK: sets the version in its files, dates the services'
# unreleased section of the changelog, commits and tags. Does not push.
set -eu
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
Usage: deploy/release.sh services|python|js|all VERSION
       deploy/release.sh versions

Sets the version of the services, the Python SDK, the JavaScript SDK or all of them, commits and tags. It pushes
nothing. VERSION is x.y.z and must be higher than the current version. Tags are services-vx.y.z, python-vx.y.z and
js-vx.y.z. "versions" prints the current versions.
END
}

fail() {
    echo "$1" >&2
    exit 1
}

read_version() {
    case $1 in
    services) sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1 ;;
    python) sed -n 's/^__version__ = "\(.*\)"$/\1/p' sdk/python/src/monlight/_version.py ;;
    js) sed -n 's/^  "version": "\(.*\)",$/\1/p' sdk/js/package.json | head -n 1 ;;
    esac
}

# Replaces pattern $2 with $3 in the first matching line of file $1; fails if no line matches.
replace_first() {
    grep -q "$2" "$1" || fail "cannot set the version: $1 has no line that matches $2"
    sed "0,/$2/s/$2/$3/" "$1" >"$1.new" && cat "$1.new" >"$1" && rm "$1.new"
}

set_version() {
    old=$(read_version "$1")
    case $1 in
    services)
        replace_first Cargo.toml "^version = \"$old\"$" "version = \"$2\""
        for lock in Cargo.lock fuzz/Cargo.lock; do
            awk -v new="$2" '{ if (last == "name = \"monlight\"" && /^version = /) $0 = "version = \"" new "\""; print; last = $0 }' \
                $lock >lock.new && cat lock.new >$lock && rm lock.new
        done
        grep -q '^## .*(unreleased)$' CHANGELOG.md || fail "CHANGELOG.md has no section marked (unreleased)"
        replace_first CHANGELOG.md '^## .*(unreleased)$' "## $2 ($(date -u +%Y-%m-%d))"
        ;;
    python) replace_first sdk/python/src/monlight/_version.py "^__version__ = \"$old\"$" "__version__ = \"$2\"" ;;
    js)
        replace_first sdk/js/package.json "^  \"version\": \"$old\",$" "  \"version\": \"$2\","
        # The first 12 lines of the lock file contain the package's own version twice.
        sed "1,12s/\"version\": \"$old\"/\"version\": \"$2\"/" sdk/js/package-lock.json >lock.new &&
            cat lock.new >sdk/js/package-lock.json && rm lock.new
        ;;
    esac
}

# Succeeds if version $1 is higher than version $2.
is_higher() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | tail -n 1)" = "$1" ]
}

case ${1-} in
versions)
    for component in services python js; do
        printf '%-9s %s\n' $component "$(read_version $component)"
    done
    exit
    ;;
services | python | js) components=$1 ;;
all) components='services python js' ;;
-h | --help)
    usage
    exit
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

version=${2-}
printf '%s\n' "$version" | grep -Eqx '(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}' ||
    fail "'$version' is not a valid version (example: 1.4.2)"
[ -z "$(git status --porcelain)" ] || fail "cannot release: the working tree has uncommitted changes"
for component in $components; do
    # The first release may keep the version that is already in the files.
    old=$(read_version "$component")
    is_higher "$version" "$old" || { [ "$version" = "$old" ] && ! git tag | grep -q "^$component-v"; } ||
        fail "cannot release $component: version $version is not higher than the current version $old"
    ! git rev-parse --quiet --verify "refs/tags/$component-v$version" >/dev/null ||
        fail "cannot release $component: tag $component-v$version already exists"
done
for component in $components; do
    set_version "$component" "$version"
done
if [ -n "$(git status --porcelain)" ]; then
    git commit --quiet --all --message "release: bump $(echo "$components" | sed 's/ /, /g') to $version"
fi
for component in $components; do
    git tag --annotate --message "$component $version" "$component-v$version"
    echo "tagged $component-v$version"
done
echo "to publish: git push --follow-tags"
