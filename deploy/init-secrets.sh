#!/bin/sh
# Creates deploy/secrets.env from secrets.env.example with random keys. Never overwrites an existing file.
set -eu
cd "$(dirname "$0")"

if [ -e secrets.env ]; then
    echo "deploy/secrets.env already exists; it was not changed" >&2
    exit 1
fi
generate_key() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}
relay_key=$(generate_key)
umask 077
# The file appears only when it is complete, so an interrupted run can be repeated.
trap 'rm -f secrets.env.new' EXIT
# The loop uses only the shell itself: the arguments of a program are visible to all users of the machine.
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
    API_KEY= | ADMIN_API_KEY=) line=$line$(generate_key) ;;
    ERROR_TRACKER_API_KEY= | METRICS_COLLECTOR_API_KEY=) line=$line$relay_key ;;
    API_KEYS=) line=${line}relay:ingest:$relay_key ;;
    esac
    printf '%s\n' "$line"
done <secrets.env.example >secrets.env.new
# Unlike mv, ln fails if another process has created the file meanwhile.
ln secrets.env.new secrets.env
echo "created deploy/secrets.env with random keys; edit it to change the other settings"
