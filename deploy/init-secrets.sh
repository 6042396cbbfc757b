#!/bin/sh
# Makes deploy/secrets.env out of its example, with random keys. One that is there already is left alone.
set -eu
cd "$(dirname "$0")"

if [ -e secrets.env ]; then
    echo "deploy/secrets.env is there already, and stays as it is" >&2
    exit 1
fi
random() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}
relay_key=$(random)
umask 077
# Whole or not at all: who is interrupted here can begin again.
trap 'rm -f secrets.env.new' EXIT
sed -e "s/^API_KEY=$/API_KEY=$(random)/" -e "s/^ADMIN_API_KEY=$/ADMIN_API_KEY=$(random)/" \
    -e "s/^ERROR_TRACKER_API_KEY=$/ERROR_TRACKER_API_KEY=$relay_key/" \
    -e "s/^METRICS_COLLECTOR_API_KEY=$/METRICS_COLLECTOR_API_KEY=$relay_key/" \
    -e "s/^API_KEYS=$/API_KEYS=relay:ingest:$relay_key/" secrets.env.example >secrets.env.new
# Unlike mv, it takes nobody's place.
ln secrets.env.new secrets.env
echo "deploy/secrets.env has new keys; its other settings are yours to fill in"
