#!/bin/sh
# Upgrades a running Monlight: backs up first, then replaces one service after another. A service must be healthy before
# the next one is touched; one that does not become healthy is rolled back to its old version.
set -eu

usage() {
    cat <<'END'
Usage: upgrade.sh --new FOLDER [--bin FOLDER] [--data FOLDER] [OPTION...] [SERVICE...]
       upgrade.sh --compose [--tag TAG] [--pull | --build] [OPTION...] [SERVICE...]

Creates a backup, then upgrades the services one at a time: all four, or those listed, in the order error-tracker,
log-viewer, metrics-collector, browser-relay. If a service does not become healthy with its new version, the old version
is started again on the current database, and the remaining services are not touched. If the old version cannot read
the database any more, the backup is restored and the newer database is kept as NAME.db.before-restore.

  --to FOLDER     folder of the backup [/var/backups/monlight]
  --keep N        number of backups to keep there; 0 keeps all [7]
  --within S      seconds in which a service must become healthy, including its migrations [60]

Binaries, for example run by systemd:

  --new FOLDER    folder of the new binaries, named with or without the prefix monlight-
  --bin FOLDER    folder of the installed binaries; the old ones are kept as NAME.previous [the folder of this script
                  when installed, else /usr/local/bin]
  --data FOLDER   folder of the databases [the folder of each systemd unit]; for other layouts see backup.sh --help

Docker:

  --compose       the services run in docker compose; COMPOSE_FILE and COMPOSE_PROJECT_NAME are respected
  --tag TAG       tag of the new images, used as MONLIGHT_VERSION [that of .env, else latest]
  --pull          pull the images first
  --build         build the images from this checkout first

Environment variables (defaults in brackets):

  STOP            shell command that stops the service $1 and waits until it has exited [systemctl stop "monlight-$1"]
  START           shell command that starts the service $1 [systemctl start "monlight-$1"]
  ERRORS_URL, LOGS_URL, METRICS_URL, RELAY_URL
                  URLs of the services [http://127.0.0.1:5010 to 5013]; not used with Docker

Exit codes: 0 all services are upgraded; 1 not all are upgraded, but all of them work; 2 invalid arguments or a missing
program; 3 a service is down with both versions and needs manual repair.
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

response_timeout_s=3
# Time in which a service must stop responding after the stop command.
stop_timeout_s=10
# Restarts by Docker after which a container counts as failed.
restarts_max=2
# Temporary tag of the images in use during an upgrade.
in_use_tag=upgrading
poll_interval_s=0.1

script=$(absolute_path "$0")
all_services="error-tracker log-viewer metrics-collector browser-relay"
services=
compose=
new=
bin=
data=
tag=
image_source=
to=/var/backups/monlight
keep=7
health_timeout_s=60
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --compose) compose=1 ;;
    --pull | --build) image_source=${1#--} ;;
    --new | --bin | --data | --to | --keep | --within | --tag)
        [ -n "${2:-}" ] || fail_usage "$1 needs a value; see --help"
        case $1 in
        --new) new=$(absolute_path "$2") ;;
        --bin) bin=$(absolute_path "$2") ;;
        --data) data=$(absolute_path "$2") ;;
        --to) to=$(absolute_path "$2") ;;
        --keep) keep=$2 ;;
        --within) health_timeout_s=$2 ;;
        --tag) tag=$2 ;;
        esac
        shift
        ;;
    error-tracker | log-viewer | metrics-collector | browser-relay) services="$services $1" ;;
    *) fail_usage "unknown argument $1; see --help" ;;
    esac
    shift
done
case $health_timeout_s in
*[!0-9]*) fail_usage "--within must be a number of seconds, not '$health_timeout_s'" ;;
esac
# The shell would read 08 as an octal number.
while [ "$health_timeout_s" != 0 ] && [ "${health_timeout_s#0}" != "$health_timeout_s" ]; do
    health_timeout_s=${health_timeout_s#0}
done
if [ -n "$compose" ]; then
    [ -z "$new$bin$data" ] || fail_usage "--compose cannot be combined with --new, --bin or --data"
else
    [ -z "$tag$image_source" ] || fail_usage "--tag, --pull and --build require --compose"
    [ -n "$new" ] || fail_usage "either --new FOLDER or --compose is required; see --help"
fi
script_folder=${script%/*}
if [ -z "$bin" ]; then
    bin=$script_folder
    [ -x "$bin/monlight-error-tracker" ] || bin=/usr/local/bin
fi
# Folder of the binaries that create the backup: the installed ones, unless a version is too old to have --backup.
backup_bin=$bin
backup_script=$script_folder/backup.sh
[ -x "$backup_script" ] || backup_script=$script_folder/monlight-backup
[ -x "$backup_script" ] ||
    fail_usage "backup script not found: neither backup.sh nor monlight-backup is in $script_folder"
for program in flock cmp curl; do
    command -v "$program" >/dev/null || fail_usage "required program not found: $program"
done

# The requested services in upgrade order: the relay last, because it sends to the others.
selected=
for service in $all_services; do
    case " ${services:-$all_services} " in
    *" $service "*) selected="$selected $service" ;;
    esac
done

umask 077
work=$(mktemp -d)
# Removes the temporary image tags and files.
# shellcheck disable=SC2317 # called by the trap
remove_temporary() {
    if [ -n "$compose" ]; then
        for service in $selected; do
            [ ! -s "$work/$service.name" ] || docker rmi "$(in_use_image "$service")" >/dev/null 2>&1 || true
        done
    fi
    rm -rf "$work"
}
trap remove_temporary EXIT

# Prints the time since boot in hundredths of a second.
now_cs() {
    read -r uptime_s _ </proc/uptime
    print_line "${uptime_s%.*}${uptime_s#*.}"
}
# Prints a duration in hundredths of a second as seconds.
format_duration() {
    print_line "$(($1 / 100)).$(($1 / 10 % 10))$(($1 % 10)) s"
}

# ---- Services that run as binaries ----

# Prints the path of the binary of service $2 in folder $1; prints nothing if there is none.
find_binary() {
    if [ -x "$1/monlight-$2" ]; then
        print_line "$1/monlight-$2"
    elif [ -x "$1/$2" ]; then
        print_line "$1/$2"
    fi
}

service_url() {
    case $1 in
    error-tracker) print_line "${ERRORS_URL:-http://127.0.0.1:5010}" ;;
    log-viewer) print_line "${LOGS_URL:-http://127.0.0.1:5011}" ;;
    metrics-collector) print_line "${METRICS_URL:-http://127.0.0.1:5012}" ;;
    browser-relay) print_line "${RELAY_URL:-http://127.0.0.1:5013}" ;;
    esac
}

# Prints the version of binary $2; prints nothing if it does not run or is not service $1.
read_version() {
    output=$("$2" --version 2>&1) || output=
    case $output in
    "$1 "*) print_line "${output#* }" ;;
    esac
}

# Succeeds if service $1 is healthy with version $2; otherwise $reason says why not.
binary_is_healthy() {
    status=$(curl --silent --max-time $response_timeout_s --output "$work/health" --write-out '%{http_code}' \
        "$(service_url "$1")/health" 2>/dev/null) || status=000
    if [ "$status" = 000 ]; then
        reason="no response from $(service_url "$1")"
    elif [ "$status" != 200 ]; then
        reason="health check failed with status $status: $(head -n 1 "$work/health" | head -c 300)"
    elif ! grep -q "\"version\":\"$2\"" "$work/health"; then
        reason="the running version is not $2: $(head -n 1 "$work/health" | head -c 300)"
    else
        return 0
    fi
    return 1
}

# Descriptor 8 holds the lock of this script. It is closed for the commands, or a service they start would keep the
# lock.
binary_stop() {
    sh -c "${STOP:-systemctl stop \"monlight-\$1\"}" sh "$1" 8<&- || return
    deadline_cs=$(($(now_cs) + stop_timeout_s * 100))
    while curl --silent --max-time $response_timeout_s --output /dev/null "$(service_url "$1")/health"; do
        [ "$(now_cs)" -lt $deadline_cs ] || return
        sleep $poll_interval_s
    done
}
binary_start() {
    sh -c "${START:-systemctl start \"monlight-\$1\"}" sh "$1" 8<&-
}

# Replaces the file $2 with a copy of $1 by an atomic rename. A process that runs the old file is not affected.
replace_file() {
    cp "$1" "$2.unfinished" && chmod 755 "$2.unfinished" && mv "$2.unfinished" "$2"
}

# Checks that both binaries of a service exist and that the service is healthy.
binary_check() {
    new_binary=$(find_binary "$new" "$1")
    old_binary=$(find_binary "$bin" "$1")
    [ -n "$old_binary" ] || fail "binary not found: no $1 in $bin; nothing was changed"
    [ -n "$new_binary" ] || fail "binary not found: no $1 in $new; nothing was changed"
    [ -n "$(read_version "$1" "$new_binary")" ] ||
        fail "$new_binary failed to print its version: it does not run on this machine or is not $1; nothing was changed"
    "$old_binary" --help 2>/dev/null | grep -q -e --backup || backup_bin=$new
    version=$(read_version "$1" "$old_binary")
    binary_is_healthy "$1" "${version:-?}" ||
        fail "$1 is unhealthy before the upgrade: $reason. Repair it or upgrade other services; nothing was changed"
}
binary_is_current() {
    cmp -s "$(find_binary "$new" "$1")" "$(find_binary "$bin" "$1")"
}
binary_upgrade() {
    old_binary=$(find_binary "$bin" "$1")
    version=$(read_version "$1" "$(find_binary "$new" "$1")")
    print_line "$1: upgrading from $(read_version "$1" "$old_binary") to $version"
    replace_file "$old_binary" "$old_binary.previous" || abort_upgrade "$1" "cannot write $old_binary.previous"
    replace_file "$(find_binary "$new" "$1")" "$old_binary" || abort_upgrade "$1" "cannot write $old_binary"
    stopped_cs=$(now_cs)
    binary_stop "$1" || { reason="failed to stop" && return 1; }
    binary_start "$1" || { reason="failed to start" && return 1; }
}
# Stops the service and puts its old binary back, without starting it.
binary_revert() {
    old_binary=$(find_binary "$bin" "$1")
    binary_stop "$1" || { reason="failed to stop" && return 1; }
    replace_file "$old_binary.previous" "$old_binary" || { reason="cannot restore $old_binary.previous" && return 1; }
    version=$(read_version "$1" "$old_binary")
}

# ---- Services that run in Docker ----

if [ -n "$compose" ]; then
    cd "$script_folder/.."
    docker_compose=docker-compose
    if docker compose version >/dev/null 2>&1; then
        docker_compose="docker compose"
    fi
fi
# Runs docker compose with the new images.
compose_with_new_images() {
    # shellcheck disable=SC2086 # two words
    env ${tag:+"MONLIGHT_VERSION=$tag"} $docker_compose "$@" </dev/null
}
# Runs docker compose with the old image of service $1, whatever tag .env contains now.
compose_with_old_image() {
    name=$(cat "$work/$1.name")
    shift
    # shellcheck disable=SC2086 # two words
    env "MONLIGHT_VERSION=${name##*:}" $docker_compose "$@" </dev/null
}
# Prints a property of the container of service $1, selected by the docker inspect template $2.
inspect_container() {
    id=$($docker_compose ps -q "$1" | head -n 1)
    [ -n "$id" ] && docker inspect --format "$2" "$id" 2>/dev/null
}
# Prints the name of the image that compose would start for a service.
configured_image() {
    compose_with_new_images config | awk -v "service=$1" '
        /^[a-z]/ { inside = $0 == "services:" }
        inside && /^  [a-z]/ { here = $0 == "  " service ":" }
        inside && here && $1 == "image:" { print $2 }'
}

# Succeeds if service $1 is healthy with the image id $2; otherwise $reason says why not.
image_is_healthy() {
    id=$($docker_compose ps -q "$1" | head -n 1)
    # The container's image, and how often Docker has restarted it.
    state=$(docker inspect --format '{{.Image}} {{.RestartCount}}' "${id:-none}" 2>/dev/null) || state="none 0"
    if [ "${state% *}" != "$2" ]; then
        reason="the container does not run the expected image"
    elif [ "${state#* }" -gt $restarts_max ]; then
        reason="the container exits again after every start"
        deadline_cs=0
    elif ! reason=$(docker exec "$id" "/app/$1" --healthcheck 2>&1); then
        reason=${reason:-health check failed}
    else
        return 0
    fi
    return 1
}
# Records the image in use and checks that the service is healthy.
image_check() {
    inspect_container "$1" '{{.Image}}' >"$work/$1.old" ||
        fail "no container found for $1; start it first: docker compose up -d. Nothing was changed"
    inspect_container "$1" '{{.Config.Image}}' >"$work/$1.name"
    image_is_healthy "$1" "$(cat "$work/$1.old")" ||
        fail "$1 is unhealthy before the upgrade: $reason. Repair it or upgrade other services; nothing was changed"
}
# Prints the temporary name of a service's image in use. Its usual name may already refer to the new image.
in_use_image() {
    name=$(cat "$work/$1.name")
    print_line "${name%:*}:$in_use_tag"
}
# Tags the image in use, and records the new image after it was pulled or built.
image_prepare() {
    docker tag "$(cat "$work/$1.old")" "$(in_use_image "$1")" ||
        fail "failed to tag the image of $1; nothing was changed"
    docker image inspect --format '{{.Id}}' "$(configured_image "$1")" >"$work/$1.new" 2>/dev/null ||
        fail "image not found: $(configured_image "$1"); get it with --pull or --build. Nothing was changed"
}
image_is_current() {
    cmp -s "$work/$1.old" "$work/$1.new"
}
image_upgrade() {
    version=$(cat "$work/$1.new")
    print_line "$1: upgrading from $(cat "$work/$1.name") to $(configured_image "$1")"
    # The tag keeps `docker image prune` from removing the old image.
    name=$(cat "$work/$1.name")
    docker tag "$(cat "$work/$1.old")" "${name%:*}:previous" || abort_upgrade "$1" "cannot tag its image as previous"
    stopped_cs=$(now_cs)
    compose_with_new_images up -d --no-deps "$1" >"$work/output" 2>&1 ||
        { reason=$(tail -n 1 "$work/output") && return 1; }
}
# Gives the old image its name back, which may refer to the new image by now: the next `up` would start that one.
image_revert() {
    version=$(cat "$work/$1.old")
    docker tag "$version" "$(cat "$work/$1.name")" || { reason="the old image no longer exists" && return 1; }
}

# ---- Both ----

check_service() {
    if [ -n "$compose" ]; then image_check "$1"; else binary_check "$1"; fi
}
is_current() {
    if [ -n "$compose" ]; then image_is_current "$1"; else binary_is_current "$1"; fi
}
upgrade_service() {
    if [ -n "$compose" ]; then image_upgrade "$1"; else binary_upgrade "$1"; fi
}
revert_service() {
    if [ -n "$compose" ]; then image_revert "$1"; else binary_revert "$1"; fi
}
is_healthy() {
    if [ -n "$compose" ]; then image_is_healthy "$1" "$version"; else binary_is_healthy "$1" "$version"; fi
}

# Waits until a service is healthy in the version that was just started; fails after $health_timeout_s.
wait_until_healthy() {
    deadline_cs=$(($(now_cs) + health_timeout_s * 100))
    until is_healthy "$1"; do
        [ "$(now_cs)" -lt $deadline_cs ] || return
        sleep $poll_interval_s
    done
}

# Starts the old version again after revert_service.
start_old_version() {
    if [ -n "$compose" ]; then
        compose_with_old_image "$1" up -d --no-deps "$1" >"$work/output" 2>&1 ||
            { reason=$(tail -n 1 "$work/output") && return 1; }
    else
        binary_start "$1" || { reason="failed to start" && return 1; }
    fi
}

# Prints why the old version cannot read the database; prints nothing if it can. The old version is asked for a backup
# to a folder that does not exist: it checks the schema of the database before it reports the missing folder. All
# versions report a newer schema with a message that contains "newer Monlight".
find_schema_conflict() {
    if [ -n "$compose" ]; then
        output=$(compose_with_old_image "$1" run --rm --no-deps -T "$1" --backup /nowhere/copy.db 2>&1) || true
    else
        binary=$(find_binary "$bin" "$1")
        output=$(DATABASE_PATH=$(database_path "$1") "$binary" --backup "$work/nowhere/copy.db" 2>&1) || true
    fi
    printf '%s\n' "$output" | sed -n 's/^\(.*: \)\{0,1\}\([^:]*newer Monlight.*\)/\2/p'
}
database_path() {
    case $1 in
    error-tracker) print_line "${ERROR_TRACKER_DB:-${data:-/var/lib/monlight-$1}/errors.db}" ;;
    log-viewer) print_line "${LOG_VIEWER_DB:-${data:-/var/lib/monlight-$1}/logs.db}" ;;
    metrics-collector) print_line "${METRICS_COLLECTOR_DB:-${data:-/var/lib/monlight-$1}/metrics.db}" ;;
    browser-relay) print_line "${BROWSER_RELAY_DB:-${data:-/var/lib/monlight-$1}/browser-relay.db}" ;;
    esac
}
# Runs the backup script with the images or binaries in use.
run_backup_script() {
    if [ -n "$compose" ]; then
        MONLIGHT_VERSION=$in_use_tag "$backup_script" --compose "$@"
    else
        "$backup_script" --bin "$backup_bin" ${data:+--data "$data"} "$@"
    fi
}

summary=
add_to_summary() {
    summary="$summary$(printf '%-18s %s' "$1" "$2")
"
}
# Prints the summary and exits with code $1.
finish() {
    printf '\n%s' "$summary"
    print_line "Backup from before the upgrade: $backup"
    exit "$1"
}

# Ends the upgrade before service $1 was changed, for the reason $2. The service still runs its old version.
abort_upgrade() {
    print_line "$1: not upgraded: $2" >&2
    add_to_summary "$1" "not upgraded: $2"
    summarize_untouched "$1"
    finish 1
}
# Ends the upgrade when service $1 does not work with either version.
abort_with_service_down() {
    add_to_summary "$1" "DOWN: $reason"
    print_line "$1: rollback failed: $reason; the service is down" >&2
    summarize_untouched "$1"
    finish 3
}
# Adds the services after $1 to the summary.
summarize_untouched() {
    after=
    for other in $selected; do
        [ -z "$after" ] || add_to_summary "$other" "not touched"
        [ "$other" != "$1" ] || after=1
    done
}

roll_back() {
    print_line "$1: upgrade failed: $reason"
    print_line "$1: rolling back to the old version"
    failure=$reason
    if [ -n "$compose" ]; then
        $docker_compose stop "$1" >"$work/output" 2>&1 || true
    fi
    revert_service "$1" || abort_with_service_down "$1"
    conflict=$(find_schema_conflict "$1")
    if [ -n "$conflict" ]; then
        print_line "$1: the old version cannot read the database: $conflict"
        print_line "$1: restoring the backup; data received since then is kept in the .before-restore database"
        run_backup_script --restore "$backup" "$1" >"$work/output" ||
            { reason="failed to restore the backup" && abort_with_service_down "$1"; }
    fi
    start_old_version "$1" || abort_with_service_down "$1"
    wait_until_healthy "$1" || abort_with_service_down "$1"
    downtime=$(format_duration $(($(now_cs) - stopped_cs)))
    print_line "$1: the old version is healthy"
    add_to_summary "$1" "rolled back${conflict:+ with the backup restored}, unavailable for $downtime: $failure"
    summarize_untouched "$1"
    finish 1
}

# Concurrent upgrades would take each other's new versions for the old ones.
locked_folder=${compose:+$script_folder}
locked_folder=${locked_folder:-$bin}
[ -d "$locked_folder" ] || fail "folder not found: $locked_folder"
exec 8<"$locked_folder"
flock -n 8 || fail "another upgrade is running in $locked_folder; try again when it has finished"
for service in $selected; do
    check_service "$service"
done
case $image_source in
pull)
    print_line "pulling images"
    # shellcheck disable=SC2086 # one word for each service
    compose_with_new_images pull $selected || fail "failed to pull the images; nothing was changed"
    ;;
build)
    print_line "building images"
    # shellcheck disable=SC2086 # one word for each service
    compose_with_new_images -f docker-compose.yml -f deploy/docker-compose.build.yml build $selected ||
        fail "failed to build the images; nothing was changed"
    ;;
esac
if [ -n "$compose" ]; then
    for service in $selected; do
        image_prepare "$service"
    done
fi
print_line "creating a backup"
# shellcheck disable=SC2086 # one word for each service
run_backup_script --to "$to" --keep "$keep" $selected 8<&- >"$work/backup" || fail "backup failed; nothing was changed"
cat "$work/backup"
backup=$(tail -n 1 "$work/backup")
# From here on, an interrupt takes effect only between services: the current one is completed or rolled back first.
interrupted=
trap 'interrupted=1' INT TERM
# Output to a closed terminal would fail and end the script.
trap 'interrupted=1; exec >/dev/null 2>&1' HUP
for service in $selected; do
    if [ -n "$interrupted" ]; then
        abort_upgrade "$service" "interrupted"
    elif is_current "$service"; then
        print_line "$service: already up to date"
        add_to_summary "$service" "already up to date"
    elif upgrade_service "$service" && wait_until_healthy "$service"; then
        downtime=$(format_duration $(($(now_cs) - stopped_cs)))
        print_line "$service: healthy again after $downtime"
        add_to_summary "$service" "upgraded, unavailable for $downtime"
    else
        roll_back "$service"
    fi
done
[ -z "$tag" ] || print_line "To use these images in every later docker compose up, set MONLIGHT_VERSION=$tag in .env"
finish 0
