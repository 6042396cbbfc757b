#!/bin/sh
# Backs up the databases of a running Monlight, and restores them. Each service's own binary copies, checks and flushes
# its database; this script adds the dated folder, checksums, the removal of old backups and a lock.
set -eu

usage() {
    cat <<'END'
Usage: backup.sh [--compose | --bin FOLDER] [--data FOLDER] [--to FOLDER] [--keep N] [SERVICE...]
       backup.sh [--compose | --bin FOLDER] [--data FOLDER] --restore BACKUP [SERVICE...]

Backs up the databases of all four services, or of those listed (error-tracker, log-viewer, metrics-collector,
browser-relay), while the services run. The backup is a new folder named by its time in UTC. It contains every write
acknowledged before the backup began. The folder gets its name only when the backup is complete, and old backups are
removed only after that. The path of the backup is the last line of the output.

  --to FOLDER       folder of the backups [/var/backups/monlight]
  --keep N          number of backups to keep, newest first; 0 keeps all [7]. Backups whose names are in the future are
                    neither counted nor removed; a warning lists them
  --restore BACKUP  restore the databases from the folder BACKUP after verifying the checksums. The services must be
                    stopped first: if one is running, nothing is changed. The current database is kept next to the
                    restored one as NAME.db.before-restore, or with a number if that name is taken. As root, the
                    restored database gets the owner of its folder.

  --compose         the services run in docker compose; COMPOSE_FILE and COMPOSE_PROJECT_NAME are respected
  --bin FOLDER      folder of the binaries, named with or without the prefix monlight- [the folder of this script when
                    installed, else /usr/local/bin]
  --data FOLDER     folder of the databases, errors.db and so on [the folder of each systemd unit, for example
                    /var/lib/monlight-error-tracker]

Environment variables with the path of a single database: ERROR_TRACKER_DB, LOG_VIEWER_DB, METRICS_COLLECTOR_DB,
BROWSER_RELAY_DB.

Exit codes: 0 success, 1 failure, 2 invalid arguments or a missing program.
END
}

print_line() {
    printf '%s\n' "$1"
}
fail() {
    printf '%s\n' "$1" >&2
    exit 1
}
fail_usage() {
    printf '%s\n' "$1" >&2
    exit 2
}

# Prints the absolute path of a file or folder, which may not exist yet.
absolute_path() {
    case $1 in
    /*) print_line "$1" ;;
    *) print_line "$PWD/$1" ;;
    esac
}

script=$(absolute_path "$0")
all_services="error-tracker log-viewer metrics-collector browser-relay"
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
        [ -n "${2:-}" ] || fail_usage "$1 needs a value; see --help"
        case $1 in
        --bin) bin=$(absolute_path "$2") ;;
        --data) data=$(absolute_path "$2") ;;
        --to) to=$(absolute_path "$2") ;;
        --keep) keep=$2 ;;
        --restore) backup=$(absolute_path "${2%/}") ;;
        esac
        shift
        ;;
    error-tracker | log-viewer | metrics-collector | browser-relay) services="$services $1" ;;
    *) fail_usage "unknown argument $1; see --help" ;;
    esac
    shift
done
case $keep in
*[!0-9]*) fail_usage "--keep must be a number, not '$keep'" ;;
???????*) fail_usage "--keep must be a number of at most 6 digits, not '$keep'" ;;
esac
# The shell would read 08 as an octal number.
while [ "$keep" != 0 ] && [ "${keep#0}" != "$keep" ]; do
    keep=${keep#0}
done
[ -z "$compose" ] || [ -z "$bin$data" ] || fail_usage "--compose cannot be combined with --bin or --data"
if [ -z "$bin" ]; then
    bin=${script%/*}
    [ -x "$bin/monlight-error-tracker" ] || bin=/usr/local/bin
fi
for program in flock sha256sum; do
    command -v $program >/dev/null || fail_usage "required program not found: $program"
done

# Prints the file name of a service's database.
database_name() {
    case $1 in
    error-tracker) print_line errors.db ;;
    log-viewer) print_line logs.db ;;
    metrics-collector) print_line metrics.db ;;
    browser-relay) print_line browser-relay.db ;;
    esac
}

# Prints the path of a service's database.
database_path() {
    case $1 in
    error-tracker) configured=${ERROR_TRACKER_DB:-} ;;
    log-viewer) configured=${LOG_VIEWER_DB:-} ;;
    metrics-collector) configured=${METRICS_COLLECTOR_DB:-} ;;
    browser-relay) configured=${BROWSER_RELAY_DB:-} ;;
    esac
    if [ -n "$configured" ]; then
        absolute_path "$configured"
    else
        print_line "${data:-/var/lib/monlight-$1}/$(database_name "$1")"
    fi
}

# Prints the path of a service's binary.
find_binary() {
    if [ -x "$bin/monlight-$1" ]; then
        print_line "$bin/monlight-$1"
    elif [ -x "$bin/$1" ]; then
        print_line "$bin/$1"
    else
        fail "binary not found: neither $bin/monlight-$1 nor $bin/$1; use --bin, or --compose for Docker"
    fi
}

# Runs a service's binary with option $3 and the file $4 in folder $2, on the database of service $1. In Docker it runs
# in a temporary container with the folder mounted as /backup, and not with `docker compose exec`: the image contains
# nothing that could remove a copy left in the volume, a separate container has a memory limit of its own, and the
# service need not be running.
run_service_command() {
    service=$1
    folder=$2
    shift 2
    if [ -n "$compose" ]; then
        if is_running "$service"; then
            # `docker compose run` would need the fixed address of the relay a second time.
            docker run --rm --network none --memory "$(docker inspect --format '{{.HostConfig.Memory}}' "$id")" --read-only --cap-drop ALL --security-opt no-new-privileges \
                --user "$(docker inspect --format '{{.Config.User}}' "$id")" --volumes-from "$id" --volume "$folder:/backup" \
                --env "DATABASE_PATH=$(docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$id" | sed -n 's/^DATABASE_PATH=//p')" \
                "$(docker inspect --format '{{.Image}}' "$id")" "$1" "/backup/$2" </dev/null
        else
            # shellcheck disable=SC2086 # two words
            $docker_compose run --rm --no-deps -T --volume "$folder:/backup" "$service" "$1" "/backup/$2" </dev/null
        fi
    else
        binary=$(find_binary "$service") || return
        DATABASE_PATH=$(database_path "$service") "$binary" "$1" "$folder/$2"
    fi
}

# Succeeds if a service is running.
is_running() {
    if [ -n "$compose" ]; then
        id=$($docker_compose ps -q "$1") || fail "cannot determine whether $1 is running: docker compose ps failed"
        [ -n "$id" ] && [ "$(docker inspect --format '{{.State.Running}}' "$id")" = true ]
    else
        # A running service holds this lock on its database. Root opens no link that another user may have put there.
        [ ! -L "$(database_path "$1")" ] || fail "cannot restore $1: $(database_path "$1") is a symbolic link; use the path of the file itself. Nothing was changed"
        [ -f "$(database_path "$1")" ] && ! flock -n "$(database_path "$1")" true
    fi
}

if [ -n "$compose" ]; then
    cd "${script%/*}/.."
    docker_compose=docker-compose
    if docker compose version >/dev/null 2>&1; then
        docker_compose="docker compose"
    fi
fi

# Locks the folder of the backups for this process. The kernel releases the lock when the process exits.
lock_folder() {
    exec 9<"$1"
    flock -n 9 || fail "another backup or restore is running in $1; try again when it has finished"
}

restore_backup() {
    case $backup in
    *.unfinished) fail "cannot restore from $backup: the backup is incomplete" ;;
    esac
    [ -r "$backup/SHA256SUMS" ] || fail "cannot restore from $backup: no readable SHA256SUMS in this folder"
    lock_folder "${backup%/*}"
    if [ -z "$services" ]; then
        for service in $all_services; do
            ! grep -q "  $(database_name "$service")\$" "$backup/SHA256SUMS" || services="$services $service"
        done
    fi
    # Verify every database before the first one is replaced.
    for service in $services; do
        name=$(database_name "$service")
        sum=$(grep "  $name\$" "$backup/SHA256SUMS") ||
            fail "cannot restore $service: $backup contains no $name; nothing was changed"
        (cd "$backup" && printf '%s\n' "$sum" | sha256sum -c - >/dev/null 2>&1) ||
            fail "checksum verification failed for $backup/$name: the file is missing or damaged; nothing was changed"
    done
    for service in $services; do
        ! is_running "$service" || fail "$service is running; stop it first. Nothing was changed"
    done
    for service in $services; do
        run_service_command "$service" "$backup" --restore "$(database_name "$service")" ||
            fail "failed to restore $service; it and the services after it in this list were not restored:$services"
    done
    print_line "restored from $backup:$services. Start these services again."
}

# Prints the folders of complete backups, oldest first.
list_backups() {
    for folder in "$to"/[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z; do
        [ ! -d "$folder" ] || print_line "$folder"
    done
}

# Prints the paths of the complete backups whose names are before ("past") or after ("future") $name, oldest first.
list_backups_of() {
    list_backups | awk -F / -v "when=$1" -v "name=$name" '$NF != name && (($NF < name) == (when == "past"))'
}

# Prints the size of a file in megabytes.
format_size() {
    bytes=$(wc -c <"$1")
    print_line "$((bytes / 1000000)).$((bytes / 100000 % 10)) MB"
}

create_backup() {
    mkdir -p "$to"
    lock_folder "$to"
    # Left by killed runs: the lock excludes a running backup.
    for leftover in "$to"/*Z.unfinished; do
        [ ! -d "$leftover" ] || rm -rf "$leftover"
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
    for service in ${services:-$all_services}; do
        file=$(database_name "$service")
        output=$(run_service_command "$service" "$unfinished" --backup "$file" 2>&1) ||
            fail "failed to back up $service; this backup is discarded: ${output:-no error message}"
        (cd "$unfinished" && sha256sum "$file" >>SHA256SUMS) ||
            fail "failed to write $unfinished/SHA256SUMS; this backup is discarded"
        printf '%-18s %-17s %10s\n' "$service" "$file" "$(format_size "$unfinished/$file")"
    done
    # The services flush their copies. Flush the checksums and the folder's name too before older backups are removed.
    sync
    mv "$unfinished" "$to/$name"
    sync
    future=$(list_backups_of future)
    if [ -n "$future" ]; then
        print_line "warning: $(print_line "$future" | wc -l) backups have names in the future: the clock is or was wrong. They are neither counted nor removed; rename or delete them: $(print_line "$future" | tr '\n' ' ')" >&2
    fi
    if [ "$keep" -gt 0 ]; then
        # The new backup is one of those to keep.
        excess=$(($(list_backups_of past | wc -l) - keep + 1))
        [ "$excess" -le 0 ] || list_backups_of past | head -n "$excess" | while read -r folder; do
            # The new name prevents an interrupted removal from leaving a folder that looks like a complete backup.
            mv "$folder" "$folder.unfinished"
            rm -rf "$folder.unfinished"
            print_line "removed $folder"
        done
    fi
    print_line "$to/$name"
}

umask 077
if [ -n "$backup" ]; then restore_backup; else create_backup; fi
