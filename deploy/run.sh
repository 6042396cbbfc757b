#!/bin/sh
# Starts the four services from the repository root with generated keys, prints example requests and stops all services
# on Ctrl-C. Keys and data are kept in .run/ between runs. Ports must not be 0, because the printed URLs contain them.
set -eu
cd "$(dirname "$0")/.."

mkdir -p .run
chmod 700 .run
for name in api-key public-key; do
    if [ ! -s .run/$name ]; then
        od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >.run/$name
    fi
done
key=$(cat .run/api-key)
public_key=$(cat .run/public-key)
errors_port=${PORT:-5010}
logs_port=${LOGS_PORT:-5011}
metrics_port=${METRICS_PORT:-5012}
relay_port=${RELAY_PORT:-5013}
errors=http://localhost:$errors_port
logs=http://localhost:$logs_port
metrics=http://localhost:$metrics_port
relay=http://localhost:$relay_port

# Another server on a port answers in place of the service that fails to start there, with another key.
require_free_port() {
    if PORT=$2 "./$1" --healthcheck 2>/dev/null; then
        echo "failed to start: another server responds on port $2; stop it first, or choose another port with $3" >&2
        exit 1
    fi
}
require_free_port error-tracker "$errors_port" PORT
require_free_port log-viewer "$logs_port" LOGS_PORT
require_free_port metrics-collector "$metrics_port" METRICS_PORT
require_free_port browser-relay "$relay_port" RELAY_PORT

pids=
stop_services() {
    # shellcheck disable=SC2086 # one word for each process
    [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
}
trap stop_services INT TERM
trap 'stop_services; wait' EXIT

# Starts service $1 on port $2 with the database .run/$3.db, and waits until it responds. Its log goes to a file that the
# log viewer follows. A database of a development version before 1.0 is moved aside, and a new one is created.
start_service() {
    launch "$@"
    if ! wait_until_ready "$@"; then
        move_database_aside "$3"
        launch "$@"
        wait_until_ready "$@" || stop_after_failure "$1" "$2"
    fi
    pids="$pids $pid"
}
launch() {
    DATABASE_PATH=.run/$3.db PORT=$2 "./$1" 2>>".run/$1.log" &
    pid=$!
}
# Polls service $1 on port $2 every 0.1 s until it responds. Returns 1 if it has exited because of its database's version.
# After 100 attempts, or if it has exited for another reason, prints the end of its log and exits.
wait_until_ready() {
    tries=0
    until PORT=$2 "./$1" --healthcheck 2>/dev/null; do
        if ! kill -0 $pid 2>/dev/null; then
            status=0
            wait $pid || status=$?
            [ $status != 3 ] || return 1
            stop_after_failure "$1" "$2"
        fi
        tries=$((tries + 1))
        [ $tries -lt 100 ] || stop_after_failure "$1" "$2"
        sleep 0.1
    done
}
stop_after_failure() {
    echo "failed to start: $1 does not respond on port $2; stopping all services. Last lines of .run/$1.log:" >&2
    tail -n 3 ".run/$1.log" >&2
    pids="$pids $pid"
    exit 1
}
move_database_aside() {
    aside=.run/$1.db.before-1.0
    while [ -e "$aside" ]; do aside=$aside.again; done
    for suffix in '' -wal -shm; do
        [ ! -e ".run/$1.db$suffix" ] || mv ".run/$1.db$suffix" "$aside$suffix"
    done
    echo "moved .run/$1.db to $aside: a development version before 1.0 created it; starting with an empty database" >&2
}
all_running() {
    for pid in $pids; do
        kill -0 "$pid" 2>/dev/null || return 1
    done
}
export API_KEY_FILE=.run/api-key
# The relay forwards the address of each page, so that rate limits apply to pages and not to the relay.
export TRUSTED_PROXIES=127.0.0.1
# URLs of the services, for links between the web interfaces.
export SERVICES="error-tracker=$errors,log-viewer=$logs,metrics-collector=$metrics"
start_service error-tracker "$errors_port" errors
start_service metrics-collector "$metrics_port" metrics
unset TRUSTED_PROXIES
export ADMIN_API_KEY_FILE=.run/api-key ERROR_TRACKER_API_KEY_FILE=.run/api-key METRICS_COLLECTOR_API_KEY_FILE=.run/api-key
export ERROR_TRACKER_URL="http://127.0.0.1:$errors_port" METRICS_COLLECTOR_URL="http://127.0.0.1:$metrics_port"
# The defaults are common ports of development servers. Set CORS_ORIGINS to the origin of your own page.
export DSN_KEYS="demo:$public_key" CORS_ORIGINS="${CORS_ORIGINS:-http://localhost:3000,http://localhost:5173,http://localhost:8080}"
start_service browser-relay "$relay_port" browser-relay
LOG_FILES=
for name in browser-relay error-tracker log-viewer metrics-collector; do
    LOG_FILES=$LOG_FILES,$name=.run/$name.log
done
export LOG_FILES="${LOG_FILES#,}"
# Container logs written by `make demo-data`.
[ ! -d .run/containers ] || export LOG_SOURCES="${LOG_SOURCES:-/var/lib/docker/containers},.run/containers"
start_service log-viewer "$logs_port" logs
all_running || {
    echo "failed to start: a service has stopped; see .run/*.log" >&2
    exit 1
}

cat <<END

  error-tracker       $errors     API key $key
  log-viewer          $logs     same API key
  metrics-collector   $metrics     same API key
  browser-relay       $relay     same API key; public key of project demo: $public_key

Open $errors, $logs or $metrics in a browser and sign in with the API key.

Report an error, then list the errors:

  curl -X POST $errors/api/errors -H 'X-API-Key: $key' \\
    -d '{"project":"demo","exception_type":"ValueError","message":"first report","traceback":"File \"app.py\", line 7, in main"}'
  curl -H 'X-API-Key: $key' $errors/api/errors

Report an error as a web page does, with the public key, and list the errors from browsers:

  curl -X POST $relay/api/browser/errors -H 'X-Monlight-Key: $public_key' \\
    -d '{"type":"TypeError","message":"cart is undefined","stack":"TypeError: cart is undefined\n    at add (http://localhost:3000/app.js:1:42)","url":"http://localhost:3000/"}'
  curl -H 'X-API-Key: $key' '$errors/api/errors?source=browser'

Send a metric, then query it:

  curl -X POST $metrics/api/metrics -H 'X-API-Key: $key' \\
    -d '[{"name":"orders_total","type":"counter","value":1,"project":"demo"}]'
  curl -H 'X-API-Key: $key' '$metrics/api/metrics?name=orders_total&period=1h'

Show the latest log lines of the services, then follow new ones:

  curl -H 'X-API-Key: $key' '$logs/api/logs?limit=5'
  curl -N -H 'X-API-Key: $key' $logs/api/logs/tail

Press Ctrl-C to stop all services.

END
# If one service exits, the others are stopped too: a partly running stack would look complete.
while all_running; do
    sleep 1 &
    wait $! || true
done
