#!/bin/sh
# Makes a release of the four services, which have one version, or of a package: sets the version where it stands, closes
# the services' part of the changelog, commits and tags. What is pushed is pushed by hand.
set -eu
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
Usage: deploy/release.sh services|python|js|all VERSION
       deploy/release.sh versions

VERSION is x.y.z, higher than the one there is. Tags are services-vx.y.z, python-vx.y.z and js-vx.y.z.
END
}

fail() {
    echo "$1" >&2
    exit 1
}

version_of() {
    case $1 in
    services) sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1 ;;
    python) sed -n 's/^__version__ = "\(.*\)"$/\1/p' sdk/python/src/monlight/_version.py ;;
    js) sed -n 's/^  "version": "\(.*\)",$/\1/p' sdk/js/package.json | head -n 1 ;;
    esac
}

# Replaces the first line of a file that matches; what follows it stays as it is.
replace() {
    grep -q "$2" "$1" || fail "$1 has no line like $2"
    sed "0,/$2/s/$2/$3/" "$1" >"$1.new" && cat "$1.new" >"$1" && rm "$1.new"
}

set_version() {
    old=$(version_of "$1")
    case $1 in
    services)
        replace Cargo.toml "^version = \"$old\"$" "version = \"$2\""
        for lock in Cargo.lock fuzz/Cargo.lock; do
            awk -v new="$2" '{ if (last == "name = \"monlight\"" && /^version = /) $0 = "version = \"" new "\""; print; last = $0 }' \
                $lock >lock.new && cat lock.new >$lock && rm lock.new
        done
        grep -q '^## .*(unreleased)$' CHANGELOG.md || fail "CHANGELOG.md has no part that is unreleased"
        replace CHANGELOG.md '^## .*(unreleased)$' "## $2 ($(date -u +%Y-%m-%d))"
        ;;
    python) replace sdk/python/src/monlight/_version.py "^__version__ = \"$old\"$" "__version__ = \"$2\"" ;;
    js)
        replace sdk/js/package.json "^  \"version\": \"$old\",$" "  \"version\": \"$2\","
        # The package stands twice at the beginning of its lock file.
        sed "1,12s/\"version\": \"$old\"/\"version\": \"$2\"/" sdk/js/package-lock.json >lock.new &&
            cat lock.new >sdk/js/package-lock.json && rm lock.new
        ;;
    esac
}

# Whether the first version is higher than the second.
is_higher() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | tail -n 1)" = "$1" ]
}

case ${1-} in
versions)
    for component in services python js; do
        printf '%-9s %s\n' $component "$(version_of $component)"
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
printf '%s\n' "$version" | grep -Eqx '(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}' || fail "'$version' is no version such as 1.4.2"
[ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed"
for component in $components; do
    # The first release has the version that stands there already.
    old=$(version_of "$component")
    is_higher "$version" "$old" || { [ "$version" = "$old" ] && ! git tag | grep -q "^$component-v"; } ||
        fail "$component has $old already, and $version is not higher"
    ! git rev-parse --quiet --verify "refs/tags/$component-v$version" >/dev/null || fail "there is a tag $component-v$version"
done
for component in $components; do
    set_version "$component" "$version"
done
if [ -n "$(git status --porcelain)" ]; then
    git commit --quiet --all --message "Release $(echo "$components" | sed 's/ /, /g') $version"
fi
for component in $components; do
    git tag --annotate --message "$component $version" "$component-v$version"
    echo "tagged $component-v$version"
done
echo "to publish: git push --follow-tags"
