#!/bin/sh
# Puts a newer Monlight in the place of a running one: a backup first, then one service after the other, each of which
# has to be healthy before the next is touched. One that is not gets its older program back by itself.
set -eu

usage() {
    cat <<'END'
Usage: upgrade.sh --new FOLDER [--bin FOLDER] [--data FOLDER] [OPTION...] [SERVICE...]
       upgrade.sh --compose [--tag TAG] [--pull | --build] [OPTION...] [SERVICE...]

Makes a backup, then upgrades the services (all four, or those named) one at a time: error-tracker, log-viewer,
metrics-collector, browser-relay. A service that does not become healthy with its new version is given the older one
again, on the database as the newer one has left it, and nothing further is touched. Should the older program not be
able to read that any more, the backup is restored; what was there is kept as NAME.db.before-restore.

  --to FOLDER     where the backup goes [/var/backups/monlight]
  --keep N        how many backups are kept there; 0 keeps all [7]
  --within S      seconds in which a service must be healthy, its migrations included [60]

Programs, as with units of systemd:

  --new FOLDER    the new programs lie there, with or without monlight- before their names
  --bin FOLDER    the programs in use lie there; they stay as NAME.previous [beside this script when installed, else
                  /usr/local/bin]
  --data FOLDER   the databases lie there [each where its unit has it]; others as in backup.sh --help

Docker:

  --compose       the services are those of docker compose; COMPOSE_FILE and COMPOSE_PROJECT_NAME are understood
  --tag TAG       the images to start, as MONLIGHT_VERSION [that of .env, else latest]
  --pull          pulls them first
  --build         builds them first, from this checkout

Environment variables (defaults in brackets):

  STOP            shell command that ends the service $1 and returns when it has ended [systemctl stop "monlight-$1"]
  START           shell command that starts the service $1 [systemctl start "monlight-$1"]
  ERRORS_URL, LOGS_URL, METRICS_URL, RELAY_URL
                  where the programs answer [http://127.0.0.1:5010 to 5013]; with Docker they are asked inside

Exits with 0 when all are upgraded; with 1 when not all are, and every one works; with 2 when it cannot be told what to
do; with 3 when a service does not work and needs somebody.
END
}

say() {
    printf '%s\n' "$1"
}
fail() {
    printf '%s\n' "$1" >&2
    exit 1
}
complain() {
    printf '%s\n' "$1" >&2
    exit 2
}

# A folder that need not be there yet, from the root on.
absolute() {
    case $1 in
    /*) say "$1" ;;
    *) say "$PWD/$1" ;;
    esac
}

# How long one answer may take.
answer_within_s=3
# How long a program may take to be gone.
stop_within_s=10
# How often a container may end before it is given up; Docker starts it again by itself.
restarts_max=2
# What images in use are called while they are upgraded.
in_use_tag=upgrading
# Between two looks.
pause_s=0.1

script=$(absolute "$0")
all="error-tracker log-viewer metrics-collector browser-relay"
services=
compose=
new=
bin=
data=
tag=
images=
to=/var/backups/monlight
keep=7
within_s=60
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --compose) compose=1 ;;
    --pull | --build) images=${1#--} ;;
    --new | --bin | --data | --to | --keep | --within | --tag)
        [ -n "${2:-}" ] || complain "$1 needs a value; --help says which"
        case $1 in
        --new) new=$(absolute "$2") ;;
        --bin) bin=$(absolute "$2") ;;
        --data) data=$(absolute "$2") ;;
        --to) to=$(absolute "$2") ;;
        --keep) keep=$2 ;;
        --within) within_s=$2 ;;
        --tag) tag=$2 ;;
        esac
        shift
        ;;
    error-tracker | log-viewer | metrics-collector | browser-relay) services="$services $1" ;;
    *) complain "unknown argument $1; --help lists what there is" ;;
    esac
    shift
done
case $within_s in
*[!0-9]*) complain "--within is a number of seconds, not $within_s" ;;
esac
if [ -n "$compose" ]; then
    [ -z "$new$bin$data" ] || complain "--compose knows where the programs and databases are"
else
    [ -z "$tag$images" ] || complain "--tag, --pull and --build go with --compose"
    [ -n "$new" ] || complain "either --new says where the new programs are, or --compose that there are images"
fi
here=${script%/*}
if [ -z "$bin" ]; then
    bin=$here
    [ -x "$bin/monlight-error-tracker" ] || bin=/usr/local/bin
fi
# Which programs make the copies: those in use, unless they are so old that they cannot.
copying=$bin
backup=$here/backup.sh
[ -x "$backup" ] || backup=$here/monlight-backup
[ -x "$backup" ] || complain "neither backup.sh nor monlight-backup is beside $script"
for needed in flock cmp curl; do
    command -v "$needed" >/dev/null || complain "$needed is needed"
done

# Those that were asked for, in the order in which they need each other.
chosen=
for service in $all; do
    case " ${services:-$all} " in
    *" $service "*) chosen="$chosen $service" ;;
    esac
done

umask 077
work=$(mktemp -d)
# Takes away what was only for the time of an upgrade.
# shellcheck disable=SC2317 # the trap calls it
clean() {
    if [ -n "$compose" ]; then
        for service in $chosen; do
            [ ! -s "$work/$service.name" ] || docker rmi "$(in_use "$service")" >/dev/null 2>&1 || true
        done
    fi
    rm -rf "$work"
}
trap clean EXIT

# Hundredths of a second since the machine began.
now_cs() {
    read -r up _ </proc/uptime
    say "${up%.*}${up#*.}"
}
seconds() {
    say "$(($1 / 100)).$(($1 / 10 % 10))$(($1 % 10)) s"
}

# ---- Programs ----

# Where a service's program is in a folder; nothing where it is not.
program() {
    if [ -x "$1/monlight-$2" ]; then
        say "$1/monlight-$2"
    elif [ -x "$1/$2" ]; then
        say "$1/$2"
    fi
}

url() {
    case $1 in
    error-tracker) say "${ERRORS_URL:-http://127.0.0.1:5010}" ;;
    log-viewer) say "${LOGS_URL:-http://127.0.0.1:5011}" ;;
    metrics-collector) say "${METRICS_URL:-http://127.0.0.1:5012}" ;;
    browser-relay) say "${RELAY_URL:-http://127.0.0.1:5013}" ;;
    esac
}

# The version of a service's program, as it says itself; nothing when it is none.
version_of() {
    said=$("$2" --version 2>&1) || said=
    case $said in
    "$1 "*) say "${said#* }" ;;
    esac
}

# Asks a service how it is, with its version; why it is not well is in $why.
program_is_well() {
    status=$(curl --silent --max-time $answer_within_s --output "$work/health" --write-out '%{http_code}' \
        "$(url "$1")/health" 2>/dev/null) || status=000
    if [ "$status" = 000 ]; then
        why="it does not answer at $(url "$1")"
    elif [ "$status" != 200 ]; then
        why="it answers with $status: $(head -n 1 "$work/health" | head -c 300)"
    elif ! grep -q "\"version\":\"$2\"" "$work/health"; then
        why="it answers, and not as version $2: $(head -n 1 "$work/health" | head -c 300)"
    else
        return 0
    fi
    return 1
}

# What is given away to those commands is nothing of ours: a service must not hold the lock.
program_stop() {
    sh -c "${STOP:-systemctl stop \"monlight-\$1\"}" sh "$1" 8<&- || return
    deadline_cs=$(($(now_cs) + stop_within_s * 100))
    while curl --silent --max-time $answer_within_s --output /dev/null "$(url "$1")/health"; do
        [ "$(now_cs)" -lt $deadline_cs ] || return
        sleep $pause_s
    done
}
program_start() {
    sh -c "${START:-systemctl start \"monlight-\$1\"}" sh "$1" 8<&-
}

# Puts a program in the place of another in one moment; the one that runs keeps its file.
place() {
    cp "$1" "$2.unfinished" && chmod 755 "$2.unfinished" && mv "$2.unfinished" "$2"
}

program_prepare() {
    new_one=$(program "$new" "$1")
    old_one=$(program "$bin" "$1")
    [ -n "$old_one" ] || fail "there is no $1 in $bin"
    [ -n "$new_one" ] || fail "there is no $1 in $new"
    [ -n "$(version_of "$1" "$new_one")" ] || fail "$new_one does not run here, or is no $1: it says no version"
    "$old_one" --help 2>/dev/null | grep -q -e --backup || copying=$new
    version=$(version_of "$1" "$old_one")
    program_is_well "$1" "${version:-?}" ||
        fail "$1 is not well before the upgrade: $why. Mend it, or name the services to upgrade"
}
program_same() {
    cmp -s "$(program "$new" "$1")" "$(program "$bin" "$1")"
}
program_forward() {
    old_one=$(program "$bin" "$1")
    version=$(version_of "$1" "$(program "$new" "$1")")
    say "$1: $(version_of "$1" "$old_one") to $version"
    place "$old_one" "$old_one.previous" || leave "$1" "$old_one.previous cannot be written"
    place "$(program "$new" "$1")" "$old_one" || leave "$1" "$old_one cannot be written"
    begun_cs=$(now_cs)
    program_stop "$1" || { why="it does not stop" && return 1; }
    program_start "$1" || { why="it does not start" && return 1; }
}
program_back() {
    old_one=$(program "$bin" "$1")
    program_stop "$1" || { why="it does not stop" && return 1; }
    place "$old_one.previous" "$old_one" || { why="$old_one.previous cannot be put back" && return 1; }
    version=$(version_of "$1" "$old_one")
}

# ---- Images ----

if [ -n "$compose" ]; then
    cd "$here/.."
    docker_compose=docker-compose
    if docker compose version >/dev/null 2>&1; then
        docker_compose="docker compose"
    fi
fi
# With the images that were asked for.
newer() {
    # shellcheck disable=SC2086 # two words
    env ${tag:+"MONLIGHT_VERSION=$tag"} $docker_compose "$@" </dev/null
}
# With those that a service had before, whatever .env says by now.
older() {
    name=$(cat "$work/$1.name")
    shift
    # shellcheck disable=SC2086 # two words
    env "MONLIGHT_VERSION=${name##*:}" $docker_compose "$@" </dev/null
}
# What the container of a service is, by a template of docker inspect's.
container() {
    id=$($docker_compose ps -q "$1" | head -n 1)
    [ -n "$id" ] && docker inspect --format "$2" "$id" 2>/dev/null
}
# The image that compose would start for a service.
wanted() {
    newer config | awk -v "service=$1" '
        /^[a-z]/ { inside = $0 == "services:" }
        inside && /^  [a-z]/ { here = $0 == "  " service ":" }
        inside && here && $1 == "image:" { print $2 }'
}

image_is_well() {
    id=$($docker_compose ps -q "$1" | head -n 1)
    # Its image, and how often it has ended and was started again.
    state=$(docker inspect --format '{{.Image}} {{.RestartCount}}' "${id:-none}" 2>/dev/null) || state="none 0"
    if [ "${state% *}" != "$2" ]; then
        why="its container is not of the image"
    elif [ "${state#* }" -gt $restarts_max ]; then
        why="it ends whenever it is started"
        deadline_cs=0
    elif ! why=$(docker exec "$id" "/app/$1" --healthcheck 2>&1); then
        why=${why:-it is not healthy}
    else
        return 0
    fi
    return 1
}
image_prepare() {
    container "$1" '{{.Image}}' >"$work/$1.old" || fail "$1 has no container; docker compose up -d starts it"
    container "$1" '{{.Config.Image}}' >"$work/$1.name"
    image_is_well "$1" "$(cat "$work/$1.old")" ||
        fail "$1 is not well before the upgrade: $why. Mend it, or name the services to upgrade"
}
# What the image of a service is called that was in use before, until the end. The name it was started by may be that of
# the newer one by now.
in_use() {
    name=$(cat "$work/$1.name")
    say "${name%:*}:$in_use_tag"
}
image_ready() {
    docker tag "$(cat "$work/$1.old")" "$(in_use "$1")" || fail "the image of $1 cannot be given a name"
    docker image inspect --format '{{.Id}}' "$(wanted "$1")" >"$work/$1.new" 2>/dev/null ||
        fail "there is no image $(wanted "$1"), so nothing was changed; --pull or --build gets it"
}
image_same() {
    cmp -s "$work/$1.old" "$work/$1.new"
}
image_forward() {
    version=$(cat "$work/$1.new")
    say "$1: $(cat "$work/$1.name") to $(wanted "$1")"
    # Under a name, lest the older image be cleaned away with nobody using it.
    name=$(cat "$work/$1.name")
    docker tag "$(cat "$work/$1.old")" "${name%:*}:previous" || leave "$1" "its image cannot be named previous"
    begun_cs=$(now_cs)
    newer up -d --no-deps "$1" >"$work/said" 2>&1 || { why=$(tail -n 1 "$work/said") && return 1; }
}
image_back() {
    version=$(cat "$work/$1.old")
    # The name may be the newer image's by now; without that, the next `up` would start it again.
    docker tag "$version" "$(cat "$work/$1.name")" || { why="the older image is gone" && return 1; }
}

# ---- Both ----

prepare() {
    if [ -n "$compose" ]; then image_prepare "$1"; else program_prepare "$1"; fi
}
same() {
    if [ -n "$compose" ]; then image_same "$1"; else program_same "$1"; fi
}
forward() {
    if [ -n "$compose" ]; then image_forward "$1"; else program_forward "$1"; fi
}
back() {
    if [ -n "$compose" ]; then image_back "$1"; else program_back "$1"; fi
}
is_well() {
    if [ -n "$compose" ]; then image_is_well "$1" "$version"; else program_is_well "$1" "$version"; fi
}

# Waits until a service is well in the version that was just started.
becomes_well() {
    deadline_cs=$(($(now_cs) + within_s * 100))
    until is_well "$1"; do
        [ "$(now_cs)" -lt $deadline_cs ] || return
        sleep $pause_s
    done
}

# Starts the older version again, whose program is in its place already.
start_older() {
    if [ -n "$compose" ]; then
        older "$1" up -d --no-deps "$1" >"$work/said" 2>&1 || { why=$(tail -n 1 "$work/said") && return 1; }
    else
        program_start "$1" || { why="it does not start" && return 1; }
    fi
}

# Says why the older version cannot read the database; nothing when it can. It is asked for a copy in a place that is
# not there: before it finds that, it looks whether the database is one for it.
older_refuses() {
    if [ -n "$compose" ]; then
        said=$(older "$1" run --rm --no-deps -T "$1" --backup /nowhere/copy.db 2>&1) || true
    else
        said=$(DATABASE_PATH=$(database "$1") "$(program "$bin" "$1")" --backup "$work/nowhere/copy.db" 2>&1) || true
    fi
    printf '%s\n' "$said" | sed -n 's/.*\(it was changed by a newer Monlight.*\)/\1/p'
}
database() {
    case $1 in
    error-tracker) say "${ERROR_TRACKER_DB:-${data:-/var/lib/monlight-$1}/errors.db}" ;;
    log-viewer) say "${LOG_VIEWER_DB:-${data:-/var/lib/monlight-$1}/logs.db}" ;;
    metrics-collector) say "${METRICS_COLLECTOR_DB:-${data:-/var/lib/monlight-$1}/metrics.db}" ;;
    browser-relay) say "${BROWSER_RELAY_DB:-${data:-/var/lib/monlight-$1}/browser-relay.db}" ;;
    esac
}
back_up() {
    if [ -n "$compose" ]; then
        MONLIGHT_VERSION=$in_use_tag "$backup" --compose "$@"
    else
        "$backup" --bin "$copying" ${data:+--data "$data"} "$@"
    fi
}

summary=
note() {
    summary="$summary$(printf '%-18s %s' "$1" "$2")
"
}
# Says what became of all, and ends.
finish() {
    printf '\n%s' "$summary"
    say "The backup from before is $copy"
    exit "$1"
}

# A service stays as it was, and works.
leave() {
    say "$1: $2" >&2
    note "$1" "not upgraded: $2"
    untouched "$1"
    finish 1
}
# A service is down or unwell with both its versions.
give_up() {
    note "$1" "DOWN: $why"
    say "$1: $why" >&2
    untouched "$1"
    finish 3
}
# Those that come after a service.
untouched() {
    seen=
    for other in $chosen; do
        [ -z "$seen" ] || note "$other" "not touched"
        [ "$other" != "$1" ] || seen=1
    done
}

roll_back() {
    say "$1: not healthy: $why"
    say "$1: rolling back"
    failed=$why
    if [ -n "$compose" ]; then
        $docker_compose stop "$1" >"$work/said" 2>&1 || true
    fi
    back "$1" || give_up "$1"
    refusal=$(older_refuses "$1")
    if [ -n "$refusal" ]; then
        say "$1: the older version cannot use the database any more: $refusal"
        say "$1: restoring the backup; what came in since is in the database that is kept beside"
        back_up --restore "$copy" "$1" >"$work/said" || { why="the backup cannot be restored" && give_up "$1"; }
    fi
    start_older "$1" || give_up "$1"
    becomes_well "$1" || give_up "$1"
    took=$(seconds $(($(now_cs) - begun_cs)))
    say "$1: the older version is healthy"
    note "$1" "rolled back${refusal:+ with the backup restored}, unavailable for $took: $failed"
    untouched "$1"
    finish 1
}

# Two at once would take each other's programs for the older ones.
installed=${compose:+$here}
installed=${installed:-$bin}
[ -d "$installed" ] || fail "there is no folder $installed"
exec 8<"$installed"
flock -n 8 || fail "another upgrade is at work in $installed"
for service in $chosen; do
    prepare "$service"
done
case $images in
pull)
    say "pulling"
    # shellcheck disable=SC2086 # one word for each
    newer pull $chosen || fail "the images cannot be pulled; nothing was changed"
    ;;
build)
    say "building"
    # shellcheck disable=SC2086 # one word for each
    newer -f docker-compose.yml -f deploy/docker-compose.build.yml build $chosen ||
        fail "the images cannot be built; nothing was changed"
    ;;
esac
if [ -n "$compose" ]; then
    for service in $chosen; do
        image_ready "$service"
    done
fi
say "backing up"
# shellcheck disable=SC2086 # one word for each
back_up --to "$to" --keep "$keep" $chosen 8<&- >"$work/backup" || fail "there is no backup, so nothing was changed"
cat "$work/backup"
copy=$(tail -n 1 "$work/backup")
# Whoever interrupts it from here on gets the service that is at work whole, one way or the other, and then an end.
interrupted=
trap 'interrupted=1' INT TERM
# A terminal that is gone takes no more lines.
trap 'interrupted=1; exec >/dev/null 2>&1' HUP
for service in $chosen; do
    if [ -n "$interrupted" ]; then
        leave "$service" "it was interrupted"
    elif same "$service"; then
        say "$service: it is this version already"
        note "$service" "the same as before"
    elif forward "$service" && becomes_well "$service"; then
        took=$(seconds $(($(now_cs) - begun_cs)))
        say "$service: healthy again after $took"
        note "$service" "upgraded, unavailable for $took"
    else
        roll_back "$service"
    fi
done
[ -z "$tag" ] || say "MONLIGHT_VERSION=$tag in .env makes every later docker compose up take the same"
finish 0
