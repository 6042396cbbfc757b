#!/bin/sh
# Starts the services from the top of the checkout with generated keys, prints how to use them, and stops them together
# on Ctrl-C. Keys and data lie in .run/ and are kept between runs. PORT=0 is not for here: the printed lines need a port.
set -eu
cd "$(dirname "$0")/.."

mkdir -p .run
chmod 700 .run
if [ ! -s .run/api-key ]; then
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >.run/api-key
fi
key=$(cat .run/api-key)
port=${PORT:-5010}
url=http://localhost:$port

API_KEY_FILE=.run/api-key DATABASE_PATH=.run/errors.db PORT=$port ./error-tracker &
tracker=$!
trap 'kill -TERM $tracker 2>/dev/null' INT TERM
trap 'kill -TERM $tracker 2>/dev/null || true' EXIT

tries=0
until PORT=$port ./error-tracker --healthcheck 2>/dev/null; do
    kill -0 $tracker 2>/dev/null || exit 1
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { echo "error-tracker does not answer on port $port" >&2; exit 1; }
    sleep 0.1
done

cat <<END

  error-tracker   $url     key $key

Report an error:

  curl -X POST $url/api/errors -H 'X-API-Key: $key' \\
    -d '{"project":"demo","exception_type":"ValueError","message":"first report","traceback":"File \"app.py\", line 7, in main"}'

See what is there:

  curl -H 'X-API-Key: $key' $url/api/errors

Ctrl-C stops everything.

END
wait $tracker || true
