#!/bin/sh
# Starts the services from the top of the checkout with generated keys, prints how to use them, and stops them together
# on Ctrl-C. Keys and data lie in .run/ and are kept between runs. Ports of 0 are not for here: the printed lines need
# ports.
set -eu
cd "$(dirname "$0")/.."

mkdir -p .run
chmod 700 .run
if [ ! -s .run/api-key ]; then
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >.run/api-key
fi
key=$(cat .run/api-key)
errors_port=${PORT:-5010}
logs_port=${LOGS_PORT:-5011}
metrics_port=${METRICS_PORT:-5012}
errors=http://localhost:$errors_port
logs=http://localhost:$logs_port
metrics=http://localhost:$metrics_port

pids=
stop() {
    # shellcheck disable=SC2086 # one word for each
    [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
}
trap stop INT TERM
trap 'stop; wait' EXIT

# Starts a service with a port and a database; what it says goes to a file that the log viewer follows.
start() {
    API_KEY_FILE=.run/api-key DATABASE_PATH=.run/$3.db PORT=$2 "./$1" 2>>".run/$1.log" &
    pids="$pids $!"
}
start error-tracker "$errors_port" errors
start metrics-collector "$metrics_port" metrics
LOG_FILES=error-tracker=.run/error-tracker.log,log-viewer=.run/log-viewer.log,metrics-collector=.run/metrics-collector.log
export LOG_FILES
start log-viewer "$logs_port" logs

# Waits until a service answers on its port.
answers() {
    tries=0
    until PORT=$2 "./$1" --healthcheck 2>/dev/null; do
        tries=$((tries + 1))
        if ! all_run || [ $tries -ge 100 ]; then
            echo "$1 does not answer on port $2; the end of .run/$1.log:" >&2
            tail -n 3 ".run/$1.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}
all_run() {
    for pid in $pids; do
        kill -0 "$pid" 2>/dev/null || return 1
    done
}
answers error-tracker "$errors_port"
answers log-viewer "$logs_port"
answers metrics-collector "$metrics_port"

cat <<END

  error-tracker       $errors     key $key
  log-viewer          $logs     the same key
  metrics-collector   $metrics     the same key

Report an error, and see what is there:

  curl -X POST $errors/api/errors -H 'X-API-Key: $key' \\
    -d '{"project":"demo","exception_type":"ValueError","message":"first report","traceback":"File \"app.py\", line 7, in main"}'
  curl -H 'X-API-Key: $key' $errors/api/errors

Send a metric, and see what is there:

  curl -X POST $metrics/api/metrics -H 'X-API-Key: $key' \\
    -d '[{"name":"orders_total","type":"counter","value":1,"project":"demo"}]'
  curl -H 'X-API-Key: $key' '$metrics/api/metrics?name=orders_total&period=1h'

See what the services themselves say, and watch them say it:

  curl -H 'X-API-Key: $key' '$logs/api/logs?limit=5'
  curl -N -H 'X-API-Key: $key' $logs/api/logs/tail

Ctrl-C stops everything.

END
# A service that ends by itself takes the others with it, so that nobody believes in a part of them.
while all_run; do
    sleep 1 &
    wait $! || true
done
