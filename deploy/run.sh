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
metrics_port=${METRICS_PORT:-5012}
errors=http://localhost:$errors_port
metrics=http://localhost:$metrics_port

pids=
stop() {
    # shellcheck disable=SC2086 # one word for each
    [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
}
trap stop INT TERM
trap 'stop; wait' EXIT

API_KEY_FILE=.run/api-key DATABASE_PATH=.run/errors.db PORT=$errors_port ./error-tracker &
tracker=$!
pids=$tracker
API_KEY_FILE=.run/api-key DATABASE_PATH=.run/metrics.db PORT=$metrics_port ./metrics-collector &
collector=$!
pids="$tracker $collector"

# Waits until a service answers: its binary, its port and its process.
answers() {
    tries=0
    until PORT=$2 "./$1" --healthcheck 2>/dev/null; do
        kill -0 "$3" 2>/dev/null || exit 1
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "$1 does not answer on port $2" >&2; exit 1; }
        sleep 0.1
    done
}
answers error-tracker "$errors_port" $tracker
answers metrics-collector "$metrics_port" $collector

cat <<END

  error-tracker       $errors     key $key
  metrics-collector   $metrics     the same key

Report an error, and see what is there:

  curl -X POST $errors/api/errors -H 'X-API-Key: $key' \\
    -d '{"project":"demo","exception_type":"ValueError","message":"first report","traceback":"File \"app.py\", line 7, in main"}'
  curl -H 'X-API-Key: $key' $errors/api/errors

Send a metric, and see what is there:

  curl -X POST $metrics/api/metrics -H 'X-API-Key: $key' \\
    -d '[{"name":"orders_total","type":"counter","value":1,"project":"demo"}]'
  curl -H 'X-API-Key: $key' '$metrics/api/metrics?name=orders_total&period=1h'

Ctrl-C stops everything.

END
# A service that ends by itself takes the other one with it, so that nobody believes in half of it.
while kill -0 $tracker 2>/dev/null && kill -0 $collector 2>/dev/null; do
    sleep 1 &
    wait $! || true
done
