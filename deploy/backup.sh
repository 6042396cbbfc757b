#!/bin/sh
# Copies the databases of a running Monlight into a folder of their own, and puts such copies back. The programs copy
# what is in use, check it and flush it themselves; this gives the copies a place, a time, checksums and an end.
set -eu

usage() {
    cat <<'END'
Usage: backup.sh [--compose | --bin FOLDER] [--data FOLDER] [--to FOLDER] [--keep N] [SERVICE...]
       backup.sh [--compose | --bin FOLDER] [--data FOLDER] --restore BACKUP [SERVICE...]

Copies the databases of the services (all four, or those named: error-tracker, log-viewer, metrics-collector,
browser-relay) while they are in use, into a new folder that is named by its time in UTC. Whatever was acknowledged
before is in it. The folder is there when all of it is, and only then are old ones removed.

  --to FOLDER       where the backups are kept [/var/backups/monlight]
  --keep N          how many are kept, the newest ones; 0 keeps all [7]
  --restore BACKUP  puts the databases of such a folder back, after checking all of it. It stops nothing: while one of
                    the services runs it changes nothing and says so. What was there is kept beside as
                    NAME.db.before-restore.

  --compose         the services are those of docker compose; COMPOSE_FILE and COMPOSE_PROJECT_NAME are understood
  --bin FOLDER      the programs lie there, with or without monlight- before their names [beside this script when
                    installed, else /usr/local/bin]
  --data FOLDER     the databases lie there, errors.db and so on [each where its unit of systemd has it,
                    /var/lib/monlight-error-tracker/errors.db]

Environment variables, for a database that is elsewhere: ERROR_TRACKER_DB, LOG_VIEWER_DB, METRICS_COLLECTOR_DB,
BROWSER_RELAY_DB. Exits with 0 when all is done, with 1 when something failed, with 2 when it cannot be told what to do.
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

script=$(absolute "$0")
all="error-tracker log-viewer metrics-collector browser-relay"
services=
compose=
bin=
data=
to=/var/backups/monlight
keep=7
backup=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --compose) compose=1 ;;
    --bin | --data | --to | --keep | --restore)
        [ -n "${2:-}" ] || complain "$1 needs a value; --help says which"
        case $1 in
        --bin) bin=$(absolute "$2") ;;
        --data) data=$(absolute "$2") ;;
        --to) to=$(absolute "$2") ;;
        --keep) keep=$2 ;;
        --restore) backup=$(absolute "${2%/}") ;;
        esac
        shift
        ;;
    error-tracker | log-viewer | metrics-collector | browser-relay) services="$services $1" ;;
    *) complain "unknown argument $1; --help lists what there is" ;;
    esac
    shift
done
case $keep in
*[!0-9]*) complain "--keep is a number, not $keep" ;;
esac
[ -z "$compose" ] || [ -z "$bin$data" ] || complain "--compose knows where the programs and databases are"
if [ -z "$bin" ]; then
    bin=${script%/*}
    [ -x "$bin/monlight-error-tracker" ] || bin=/usr/local/bin
fi
for needed in flock sha256sum; do
    command -v $needed >/dev/null || complain "$needed is needed"
done

# The name of a service's database.
database() {
    case $1 in
    error-tracker) say errors.db ;;
    log-viewer) say logs.db ;;
    metrics-collector) say metrics.db ;;
    browser-relay) say browser-relay.db ;;
    esac
}

# Where it lies.
location() {
    case $1 in
    error-tracker) known=${ERROR_TRACKER_DB:-} ;;
    log-viewer) known=${LOG_VIEWER_DB:-} ;;
    metrics-collector) known=${METRICS_COLLECTOR_DB:-} ;;
    browser-relay) known=${BROWSER_RELAY_DB:-} ;;
    esac
    if [ -n "$known" ]; then
        absolute "$known"
    else
        say "${data:-/var/lib/monlight-$1}/$(database "$1")"
    fi
}

# Where its program lies.
program() {
    if [ -x "$bin/monlight-$1" ]; then
        say "$bin/monlight-$1"
    elif [ -x "$bin/$1" ]; then
        say "$bin/$1"
    else
        fail "there is neither $bin/monlight-$1 nor $bin/$1; --bin says where the programs are, --compose that there are none"
    fi
}

# Runs a service's program on its database, with a folder that the arguments call /backup. An image holds nothing but
# the program, so that what `exec` left in a volume could not be removed; a container of its own also has the memory for
# itself, and is there when the service is not.
run() {
    service=$1
    folder=$2
    shift 2
    if [ -n "$compose" ]; then
        # shellcheck disable=SC2086 # two words
        $docker_compose run --rm --no-deps -T --volume "$folder:/backup" "$service" "$1" "/backup/$2" </dev/null
    else
        program=$(program "$service") || return
        DATABASE_PATH=$(location "$service") "$program" "$1" "$folder/$2"
    fi
}

# Whether somebody uses a service's database.
runs() {
    if [ -n "$compose" ]; then
        id=$($docker_compose ps -q "$1") || fail "docker compose does not say whether $1 runs"
        [ -n "$id" ] && [ "$(docker inspect --format '{{.State.Running}}' "$id")" = true ]
    else
        # The lock that the programs hold themselves.
        [ -e "$(location "$1")" ] && ! flock -n "$(location "$1")" true
    fi
}

if [ -n "$compose" ]; then
    cd "${script%/*}/.."
    docker_compose=docker-compose
    if docker compose version >/dev/null 2>&1; then
        docker_compose="docker compose"
    fi
fi

# Nobody else may make, remove or put back backups of this folder meanwhile. The kernel gives the lock back, however
# this ends.
lock() {
    exec 9<"$1"
    flock -n 9 || fail "another backup or restore is at work in $1"
}

restore() {
    case $backup in
    *.unfinished) fail "$backup is unfinished" ;;
    esac
    [ -r "$backup/SHA256SUMS" ] || fail "$backup is no backup: it has no SHA256SUMS that can be read"
    lock "${backup%/*}"
    if [ -z "$services" ]; then
        for service in $all; do
            ! grep -q "  $(database "$service")\$" "$backup/SHA256SUMS" || services="$services $service"
        done
    fi
    # All of it is looked at before any of it is put back.
    for service in $services; do
        name=$(database "$service")
        sum=$(grep "  $name\$" "$backup/SHA256SUMS") || fail "$backup has no $name; nothing was changed"
        (cd "$backup" && printf '%s\n' "$sum" | sha256sum -c - >/dev/null 2>&1) ||
            fail "$backup/$name is not what it was when it was made: its checksum differs; nothing was changed"
    done
    for service in $services; do
        ! runs "$service" || fail "$service runs; stop it first. Nothing was changed"
    done
    for service in $services; do
        run "$service" "$backup" --restore "$(database "$service")" ||
            fail "$service was not restored, nor was any service named after it in:$services"
        if [ -z "$compose" ] && [ "$(id -u)" = 0 ]; then
            # A unit's user is whoever has its folder.
            file=$(location "$service")
            # shellcheck disable=SC2012 # of the two numbers, and not of the name
            chown "$(ls -ldn "${file%/*}/" | awk '{ print $3 ":" $4 }')" "$file"
        fi
    done
    say "restored from $backup:$services. Start them again."
}

# Backups in the folder, the oldest first.
backups() {
    for folder in "$to"/[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z; do
        [ ! -d "$folder" ] || say "$folder"
    done
}

# The size of a file in megabytes.
megabytes() {
    bytes=$(wc -c <"$1")
    say "$((bytes / 1000000)).$((bytes / 100000 % 10)) MB"
}

back_up() {
    mkdir -p "$to"
    lock "$to"
    # Whoever left these was killed; nobody else is at work here.
    for left in "$to"/*Z.unfinished; do
        [ ! -d "$left" ] || rm -rf "$left"
    done
    while
        name=$(date -u +%Y%m%dT%H%M%SZ)
        [ -e "$to/$name" ]
    do
        sleep 1
    done
    unfinished=$to/$name.unfinished
    trap 'rm -rf "$unfinished"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -m 700 "$unfinished"
    for service in ${services:-$all}; do
        file=$(database "$service")
        said=$(run "$service" "$unfinished" --backup "$file" 2>&1) ||
            fail "$service was not backed up, so nothing is kept: ${said:-it says nothing}"
        (cd "$unfinished" && sha256sum "$file" >>SHA256SUMS) || fail "$to cannot take the checksums"
        printf '%-18s %-17s %10s\n' "$service" "$file" "$(megabytes "$unfinished/$file")"
    done
    # The programs flush their copies; this is for the checksums and the names, before anything older goes.
    sync
    mv "$unfinished" "$to/$name"
    sync
    if [ "$keep" -gt 0 ]; then
        excess=$(($(backups | wc -l) - keep))
        [ "$excess" -le 0 ] || backups | head -n "$excess" | while read -r folder; do
            # One that is half removed is none.
            mv "$folder" "$folder.unfinished"
            rm -rf "$folder.unfinished"
            say "removed $folder"
        done
    fi
    say "$to/$name"
}

umask 077
if [ -n "$backup" ]; then restore; else back_up; fi
