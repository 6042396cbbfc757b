#!/bin/sh
# Starts the services from the top of the checkout with generated keys, prints how to use them, and stops them together
# on Ctrl-C. Keys and data lie in .run/ and are kept between runs. Ports of 0 are not for here: the printed lines need
# ports.
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

pids=
stop() {
    # shellcheck disable=SC2086 # one word for each
    [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
}
trap stop INT TERM
trap 'stop; wait' EXIT

# Starts a service with a port and a database; what it says goes to a file that the log viewer follows.
start() {
    DATABASE_PATH=.run/$3.db PORT=$2 "./$1" 2>>".run/$1.log" &
    pids="$pids $!"
}
export API_KEY_FILE=.run/api-key
# The relay says whose reports it passes on, so that limits count pages and not the relay.
export TRUSTED_PROXIES=127.0.0.1
# Where the interfaces find each other.
export SERVICES="error-tracker=$errors,log-viewer=$logs,metrics-collector=$metrics"
start error-tracker "$errors_port" errors
start metrics-collector "$metrics_port" metrics
unset TRUSTED_PROXIES
export ADMIN_API_KEY_FILE=.run/api-key ERROR_TRACKER_API_KEY_FILE=.run/api-key METRICS_COLLECTOR_API_KEY_FILE=.run/api-key
export ERROR_TRACKER_URL="http://127.0.0.1:$errors_port" METRICS_COLLECTOR_URL="http://127.0.0.1:$metrics_port"
# Where development servers listen; your own page's origin is better.
export DSN_KEYS="demo:$public_key" CORS_ORIGINS="${CORS_ORIGINS:-http://localhost:3000,http://localhost:5173,http://localhost:8080}"
start browser-relay "$relay_port" browser-relay
LOG_FILES=
for name in browser-relay error-tracker log-viewer metrics-collector; do
    LOG_FILES=$LOG_FILES,$name=.run/$name.log
done
export LOG_FILES="${LOG_FILES#,}"
# What `make demo-data` has left.
[ ! -d .run/containers ] || export LOG_SOURCES="${LOG_SOURCES:-/var/lib/docker/containers},.run/containers"
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
answers browser-relay "$relay_port"

cat <<END

  error-tracker       $errors     key $key
  log-viewer          $logs     the same key
  metrics-collector   $metrics     the same key
  browser-relay       $relay     the same key; pages of the project demo hold $public_key

Open $errors, $logs or $metrics in a browser and sign in with that key.

Report an error, and see what is there:

  curl -X POST $errors/api/errors -H 'X-API-Key: $key' \\
    -d '{"project":"demo","exception_type":"ValueError","message":"first report","traceback":"File \"app.py\", line 7, in main"}'
  curl -H 'X-API-Key: $key' $errors/api/errors

Report one as a page in a browser does, with the key that anybody may see:

  curl -X POST $relay/api/browser/errors -H 'X-Monlight-Key: $public_key' \\
    -d '{"type":"TypeError","message":"cart is undefined","stack":"TypeError: cart is undefined\n    at add (http://localhost:3000/app.js:1:42)","url":"http://localhost:3000/"}'
  curl -H 'X-API-Key: $key' '$errors/api/errors?source=browser'

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
