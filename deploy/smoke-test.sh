#!/bin/sh
# End-to-end smoke test for a running Monlight: errors, metrics, logs, browser reports, keys, CORS and rate limits,
# through the public API. Needs a POSIX shell and curl. Prints one line for each check: "ok", or "FAIL" with the
# expected and the actual result.
set -eu

usage() {
    cat <<'END'
Usage: deploy/smoke-test.sh [--secrets FILE] [--compose]

Tests a running Monlight from end to end. Exit codes: 0 all checks passed, 1 a check failed, 2 invalid arguments, missing
settings or no curl. All test data belongs to the project monlight-smoke-test, which raises no alerts, and has the same
names in every run. At the end, the test resolves its errors, deletes its source map and deactivates its public key.

  --secrets FILE  read settings that are not set below from FILE, which has lines NAME=value (deploy/secrets.env)
  --compose       also stop the services with docker compose, check that each exits with code 0 within 5 s, and start
                  them again

Environment variables (defaults in brackets):

  ERRORS_URL       URL of the error tracker [http://localhost:5010]
  LOGS_URL         URL of the log viewer [http://localhost:5011]
  METRICS_URL      URL of the metrics collector [http://localhost:5012]
  RELAY_URL        URL of the browser relay [http://localhost:5013]
  API_KEY          API key of all services; required unless every service has its own key below
  ERRORS_KEY       API key of the error tracker [API_KEY]
  LOGS_KEY         API key of the log viewer [API_KEY]
  METRICS_KEY      API key of the metrics collector [API_KEY]
  ADMIN_API_KEY    API key of the browser relay [API_KEY]
  ORIGIN           an origin in the relay's CORS_ORIGINS [the first one in the --secrets file, or
                   http://localhost:3000 without such a file]; empty skips the CORS checks
  RELAY_RATE_LIMIT RATE_LIMIT of the relay in requests per minute [300]; 0 skips the rate limit check
  CURL_CA_BUNDLE   PEM file with trusted root certificates, for a private CA [curl's own]
END
}

fail_usage() {
    printf '%s\n' "$1" >&2
    exit 2
}

secrets=
compose=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --secrets)
        [ $# -ge 2 ] || fail_usage "--secrets needs a file"
        secrets=$2
        [ -r "$secrets" ] || fail_usage "cannot read $secrets"
        shift
        ;;
    --compose) compose=1 ;;
    *) fail_usage "unknown argument $1; see --help" ;;
    esac
    shift
done

# Prints the value of a setting in the secrets file; prints nothing if it is not set.
read_secret() {
    [ -z "$secrets" ] || sed -n "s/^$1=//p" "$secrets" | tail -n 1
}
origins=$(read_secret CORS_ORIGINS)
[ -n "$secrets" ] || origins=http://localhost:3000
# Skip wildcard patterns: no page has such an origin.
origin=$(printf '%s\n' "$origins" | tr ',' '\n' | sed -n '/\*/d; s/^ *//; s/ *$//; p; q')
origin=${ORIGIN-$origin}
errors=${ERRORS_URL:-http://localhost:5010}
logs=${LOGS_URL:-http://localhost:5011}
metrics=${METRICS_URL:-http://localhost:5012}
relay=${RELAY_URL:-http://localhost:5013}
key=${API_KEY:-$(read_secret API_KEY)}
errors_key=${ERRORS_KEY:-$key}
logs_key=${LOGS_KEY:-$key}
metrics_key=${METRICS_KEY:-$key}
relay_key=${ADMIN_API_KEY:-$(read_secret ADMIN_API_KEY)}
relay_key=${relay_key:-$key}
for required_key in "$errors_key" "$logs_key" "$metrics_key" "$relay_key"; do
    [ -n "$required_key" ] || fail_usage "API_KEY is required (or --secrets deploy/secrets.env); see --help"
done
rate_limit=${RELAY_RATE_LIMIT:-300}
command -v curl >/dev/null || fail_usage "required program not found: curl"

response_timeout_s=10
connect_timeout_s=3
# Time after which docker compose kills a service that has not stopped.
stop_timeout_s=5
start_timeout_s=20
# Larger than the default body limit of common reverse proxies, which must be raised for source maps.
map_bytes=2000000

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Writes file $1 with the header $2: $3. curl reads keys from files, because other users can see a process's arguments.
write_header_file() {
    printf '%s: %s\n' "$2" "$3" >"$work/$1"
}
write_header_file errors-key X-API-Key "$errors_key"
write_header_file logs-key X-API-Key "$logs_key"
write_header_file metrics-key X-API-Key "$metrics_key"
write_header_file relay-key X-API-Key "$relay_key"
write_header_file wrong-key X-API-Key "not-the-key-$$"
write_header_file wrong-public-key X-Monlight-Key 00000000000000000000000000000000
# Used until a public key has been created.
cp "$work/wrong-public-key" "$work/public-key"

passed=0
failed=0
report_pass() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$1"
}
# Arguments: name of the check, expected result, actual result.
report_failure() {
    failed=$((failed + 1))
    printf 'FAIL  %s: expected %s; got %s\n' "$1" "$2" "$3"
}
report_skip() {
    printf 'SKIP  %s: %s\n' "$1" "$2"
}

# Base URLs that did not respond. Later requests to them fail without waiting for another timeout.
unreachable=
# Sends a request to the base URL $1 and the path $2; further arguments are passed to curl. Sets $status and writes the
# response to the files body and head.
send_request() {
    base=$1
    address=$1$2
    shift 2
    : >"$work/body"
    : >"$work/head"
    case " $unreachable " in
    *" $base "*)
        status="no response (request skipped after an earlier failure)"
        return
        ;;
    esac
    code=0
    status=$(curl --silent --show-error --globoff --connect-timeout $connect_timeout_s --max-time $response_timeout_s \
        --output "$work/body" --dump-header "$work/head" --write-out '%{http_code}' "$@" -- "$address" \
        2>"$work/error") || code=$?
    case $code in
    0) ;;
    6 | 7 | 28)
        unreachable="$unreachable $base"
        status="no response ($(cat "$work/error"))"
        ;;
    *) status="no response ($(cat "$work/error"))" ;;
    esac
}

# Prints the status and the first 300 characters of the response body.
describe_response() {
    printf '%s %s' "$status" "$(tr '\n' ' ' <"$work/body" | cut -c 1-300)"
}

# Checks the status of the response and that its body contains the given strings. Arguments: name of the check, status,
# strings.
expect() {
    name=$1
    expected_status=$2
    shift 2
    if [ "$status" != "$expected_status" ]; then
        report_failure "$name" "$expected_status${1:+ with $1}" "$(describe_response)"
        return
    fi
    for string; do
        if ! grep -qF -e "$string" "$work/body"; then
            report_failure "$name" "$expected_status with $string" "$(describe_response)"
            return
        fi
    done
    report_pass "$name"
}

# Prints the value of a response header.
read_header() {
    tr -d '\r' <"$work/head" | awk -v name="$1:" 'tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); value = $0 }
        END { print value }'
}

# Checks that the response confirms the first report of this run: of a new group, or of one that an earlier run resolved.
expect_first_report() {
    if [ "$status" = 200 ]; then
        expect "$1" 200 '"status":"reopened"'
    else
        expect "$1" 201 '"status":"created"'
    fi
}

# Checks that response header $2 has the value $3; an empty value means that the header must be absent.
expect_header() {
    value=$(read_header "$2")
    if [ "$value" = "$3" ]; then
        report_pass "$1"
    else
        report_failure "$1" "$2: ${3:-(absent)}" "${value:-(absent)} ($(describe_response))"
    fi
}

# Prints the id in the response body. Prints 0, which no object has, if there is none, so that later checks fail and not
# the script.
read_id() {
    response_id=$(sed -n 's/.*"id":\([0-9][0-9]*\).*/\1/p' "$work/body")
    printf '%s' "${response_id:-0}"
}

# Prints the count in the response body to a report. The response for a new group has none: it is the first report.
read_count() {
    response_count=$(sed -n 's/.*"count":\([0-9][0-9]*\).*/\1/p' "$work/body")
    printf '%s' "${response_count:-1}"
}

# Prints the base URL of a service.
base_url() {
    case $1 in
    errors) printf '%s' "$errors" ;;
    logs) printf '%s' "$logs" ;;
    metrics) printf '%s' "$metrics" ;;
    relay) printf '%s' "$relay" ;;
    esac
}

# The error tracker raises no alerts for this project.
project=monlight-smoke-test
release=smoke-test
started_s=$(date +%s)
printf 'errors %s, logs %s, metrics %s, relay %s; project %s\n' "$errors" "$logs" "$metrics" "$relay" "$project"

for service in errors logs metrics relay; do
    send_request "$(base_url $service)" /health
    expect "$service: /health reports ok" 200 '"status":"ok"'
done

for service in errors logs metrics; do
    send_request "$(base_url $service)" /
    expect "$service: / serves the web interface" 200 '<!doctype html>'
    policy=$(read_header Content-Security-Policy)
    case $policy in
    *"default-src 'self'"*) report_pass "$service: / has a Content-Security-Policy" ;;
    *) report_failure "$service: / has a Content-Security-Policy" "default-src 'self'" "${policy:-(absent)} ($status)" ;;
    esac
done
send_request "$relay" /monlight.min.js --compressed
expect "relay: /monlight.min.js is served" 200 "MonlightConfig"

check_key_required() {
    send_request "$2" "$3"
    expect "$1: a request without a key is rejected" 401 '"detail"'
    send_request "$2" "$3" --header "@$work/wrong-key"
    expect "$1: a request with a wrong key is rejected" 401 '"detail"'
}
check_key_required errors "$errors" /api/errors
check_key_required logs "$logs" /api/logs
check_key_required metrics "$metrics" /api/metrics/names
check_key_required relay "$relay" /api/dsn-keys

# An interrupted run can leave unresolved errors.
send_request "$errors" "/api/errors?project=$project" --header "@$work/errors-key"
for unresolved in $(tr ',' '\n' <"$work/body" | sed -n 's/^.*{"id":\([0-9][0-9]*\)$/\1/p'); do
    send_request "$errors" "/api/errors/$unresolved/resolve" --request POST --header "@$work/errors-key"
done

# Errors: equal reports form one group.
cat >"$work/report" <<END
{"project":"$project","environment":"smoke","exception_type":"SmokeTest","message":"nothing is wrong",
"traceback":"Traceback (most recent call last):\n  File \"/app/smoke.py\", line 7, in check\nSmokeTest: nothing is wrong"}
END
send_report() {
    send_request "$errors" /api/errors --header "@$work/errors-key" --data-binary "@$work/report"
}
send_report
expect_first_report "errors: a report creates or reopens a group"
error=$(read_id)
count=$(read_count)
send_report
expect "errors: a second report increments the count" 200 '"status":"incremented"' "\"count\":$((count + 1))"
send_request "$errors" "/api/errors?project=$project&source=server" --header "@$work/errors-key"
expect "errors: the group is listed" 200 "\"id\":$error," '"total":1'
send_request "$errors" "/api/errors/$error" --header "@$work/errors-key"
expect "errors: the group has its traceback and occurrences" 200 '/app/smoke.py' '"occurrences":[{'
send_request "$errors" "/api/errors/$error/resolve" --request POST --header "@$work/errors-key"
expect "errors: the group is resolved" 200 '"status":"resolved"'
send_report
expect "errors: a third report reopens the group" 200 '"status":"reopened"' "\"count\":$((count + 2))"
send_request "$errors" /api/projects --header "@$work/errors-key"
expect "errors: the project is listed" 200 "\"$project\""

# Metrics. The time as a value distinguishes the points of this run from those of earlier ones.
send_request "$metrics" /api/metrics --header "@$work/metrics-key" --data-binary "[
{\"name\":\"smoke_test_total\",\"type\":\"counter\",\"value\":3,\"project\":\"$project\",\"labels\":{\"step\":\"one\"}},
{\"name\":\"smoke_test_total\",\"type\":\"counter\",\"value\":$started_s.5,\"project\":\"$project\",\"labels\":{\"step\":\"one\"}}]"
expect "metrics: a batch is accepted" 202 '"count":2'
send_request "$metrics" "/api/metrics?name=smoke_test_total&period=1h&labels=step:one&project=$project" \
    --header "@$work/metrics-key"
expect "metrics: the batch is visible immediately" 200 "\"max\":$started_s.5,"
send_request "$metrics" "/api/metrics/names?project=$project" --header "@$work/metrics-key"
expect "metrics: the metric name is listed" 200 '"smoke_test_total"'
send_request "$metrics" "/api/dashboard?period=1h&project=$project" --header "@$work/metrics-key"
expect "metrics: the dashboard counts the batch" 200 '"name":"smoke_test_total"'

# Logs.
send_request "$logs" "/api/logs?limit=5" --header "@$work/logs-key"
expect "logs: entries are listed" 200 '{"logs":[' '"total":'
send_request "$logs" "/api/logs?search=nothing-is-called-$started_s-$$" --header "@$work/logs-key"
expect "logs: a search without matches is empty" 200 '{"logs":[]' '"total":0'
send_request "$logs" /api/logs/containers --header "@$work/logs-key"
expect "logs: containers are listed" 200 '{"containers":['
send_request "$logs" /api/logs/stats --header "@$work/logs-key"
expect "logs: statistics are returned" 200 '"total_logs":'

# Browsers: the relay accepts reports with a public key and forwards them to the other services.
send_request "$relay" /api/dsn-keys --header "@$work/relay-key" --data-binary "{\"project\":\"$project\"}"
expect "relay: a public key is created" 201 '"public_key":"'
public_key_id=$(read_id)
public_key=$(sed -n 's/.*"public_key":"\([^"]*\)".*/\1/p' "$work/body")
[ -z "$public_key" ] || write_header_file public-key X-Monlight-Key "$public_key"
send_request "$relay" /api/dsn-keys --header "@$work/relay-key"
expect "relay: the public key is listed" 200 "\"project\":\"$project\""
send_browser_error() {
    send_request "$relay" /api/browser/errors "$@" --data-binary "{\"type\":\"SmokeTest\",\"message\":\"nothing is wrong\",
\"stack\":\"SmokeTest: nothing is wrong\n    at a (https://smoke.invalid/app.js:1:1)\",\"url\":\"https://smoke.invalid/\",
\"release\":\"$release\",\"environment\":\"smoke\"}"
}
send_browser_error --header "@$work/wrong-public-key"
expect "relay: a report with a wrong public key is rejected" 401 '"detail"'
send_browser_error
expect "relay: a report without a public key is rejected" 401 '"detail"'

# The source map must be uploaded before the report whose stack trace needs it.
{
    printf '{"project":"%s","release":"%s","file_url":"https://smoke.invalid/app.js","map_content":"' "$project" "$release"
    printf '{\\"version\\":3,\\"sources\\":[\\"src/cart.js\\"],\\"names\\":[],\\"mappings\\":\\"AAME\\",'
    printf '\\"sourcesContent\\":[\\"// '
    printf "%${map_bytes}s" '' | tr ' ' x
    printf '\\"]}"}'
} >"$work/map"
send_request "$relay" /api/source-maps --header "@$work/relay-key" --data-binary "@$work/map"
expect "relay: a 2 MB source map is uploaded" 201 '"status":"uploaded"'
map=$(read_id)
send_request "$relay" "/api/source-maps?project=$project" --header "@$work/relay-key"
expect "relay: the source map is listed" 200 '"file_url":"https://smoke.invalid/app.js"'
send_browser_error --header "@$work/public-key" ${origin:+--header "Origin: $origin"}
expect_first_report "relay: a browser error reaches the error tracker"
if [ -n "$origin" ]; then
    expect_header "relay: the response allows the page's origin" Access-Control-Allow-Origin "$origin"
else
    report_skip "relay: the response allows the page's origin" "ORIGIN is empty"
fi
browser_error_id=$(read_id)
send_request "$errors" "/api/errors?project=$project&source=browser" --header "@$work/errors-key"
expect "errors: the browser error is listed" 200 "\"id\":$browser_error_id," '"source":"browser"'
send_request "$errors" "/api/errors/$browser_error_id" --header "@$work/errors-key"
expect "errors: the browser stack trace is symbolicated" 200 'src/cart.js:7:3'

send_request "$relay" /api/browser/metrics --header "@$work/public-key" --data-binary "{\"metrics\":[
{\"name\":\"smoke_test_page_ms\",\"type\":\"histogram\",\"value\":$started_s.5,\"labels\":{}}],\"url\":\"https://smoke.invalid/cart\",
\"session_id\":\"smoke-test\"}"
expect "relay: browser metrics are accepted" 202 '"status":"accepted"'
send_request "$metrics" "/api/metrics?name=smoke_test_page_ms&period=1h&labels=source:browser,page:/cart&project=$project" \
    --header "@$work/metrics-key"
expect "metrics: the browser metrics are visible" 200 "\"max\":$started_s.5,"

# CORS: browsers send a preflight request first.
send_preflight() {
    send_request "$relay" /api/browser/errors --request OPTIONS --header "Origin: $1" \
        --header "Access-Control-Request-Method: POST" \
        --header "Access-Control-Request-Headers: content-type,x-monlight-key"
}
if [ -n "$origin" ]; then
    send_preflight "$origin"
    expect_header "relay: preflight from $origin is allowed" Access-Control-Allow-Origin "$origin"
    expect_header "relay: preflight allows credentials" Access-Control-Allow-Credentials true
    allowed=$(read_header Access-Control-Allow-Headers)
    case $allowed in
    *X-Monlight-Key*) report_pass "relay: preflight allows X-Monlight-Key" ;;
    *)
        report_failure "relay: preflight allows X-Monlight-Key" "Access-Control-Allow-Headers: X-Monlight-Key" \
            "${allowed:-(absent)} ($(describe_response))"
        ;;
    esac
else
    report_skip "relay: preflight from an allowed origin is allowed" "ORIGIN is empty"
fi
send_preflight https://elsewhere.invalid
if [ "$status" = 204 ]; then
    expect_header "relay: preflight from another origin is denied" Access-Control-Allow-Origin ""
    expect_header "relay: preflight from another origin denies credentials" Access-Control-Allow-Credentials ""
else
    report_failure "relay: preflight from another origin is denied" 204 "$(describe_response)"
    report_failure "relay: preflight from another origin denies credentials" 204 "$(describe_response)"
fi
if [ -n "$origin" ]; then
    send_browser_error --header "@$work/public-key" --header "Origin: https://elsewhere.invalid"
    expect "relay: a report from another origin is rejected" 403 '"detail"'
else
    report_skip "relay: a report from another origin is rejected" "ORIGIN is empty"
fi

# Rate limit: sends one request more than the limit allows. Only the public key created above is counted, so no other
# client is limited.
if [ "$rate_limit" -gt 0 ]; then
    # The file gets the status of each response, and the Retry-After headers.
    : >"$work/rates"
    case " $unreachable " in
    *" $relay "*) ;;
    *)
        curl --silent --max-time $((response_timeout_s * 3)) --header "@$work/public-key" --data-binary '{}' \
            --output /dev/null --dump-header - "$relay/api/browser/errors?n=[1-$((rate_limit + 1))]" 2>"$work/error" |
            tr -d '\r' | sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p; s/^\(retry-after: *[0-9].*\)/\1/Ip' >"$work/rates"
        ;;
    esac
    rejected=$(grep -c '^429' "$work/rates" || true)
    retry_headers=$(grep -ci '^retry-after' "$work/rates" || true)
    received="$(sort "$work/rates" | uniq -c | tr -s ' \n' ' ')"
    if [ "$rejected" -gt 0 ] && [ "$retry_headers" -ge "$rejected" ]; then
        report_pass "relay: over $rate_limit requests per minute are rejected with Retry-After"
    else
        report_failure "relay: over $rate_limit requests per minute are rejected with Retry-After" \
            "429 and Retry-After within $((rate_limit + 1)) requests" "${received:- nothing}"
    fi
else
    report_skip "relay: requests over the rate limit are rejected" "RELAY_RATE_LIMIT is 0"
fi

# Clean up. Resolved errors and metric points remain until their retention ends; further runs add to the same ones.
send_request "$relay" "/api/source-maps/$map" --request DELETE --header "@$work/relay-key"
expect "relay: the source map is deleted" 200 '"status":"deleted"'
send_request "$relay" "/api/dsn-keys/$public_key_id" --request DELETE --header "@$work/relay-key"
expect "relay: the public key is deactivated" 200 '"status":"deactivated"'
send_browser_error --header "@$work/public-key"
expect "relay: the deactivated public key is rejected" 401 '"detail"'
send_request "$errors" "/api/errors/$error/resolve" --request POST --header "@$work/errors-key"
expect "errors: the group is resolved again" 200 '"status":"resolved"'
send_request "$errors" "/api/errors/$browser_error_id/resolve" --request POST --header "@$work/errors-key"
expect "errors: the browser error is resolved" 200 '"status":"resolved"'

# Stops and starts all services of the compose project.
restart_services() {
    cd "$(dirname "$0")/.."
    docker_compose=docker-compose
    if docker compose version >/dev/null 2>&1; then
        docker_compose="docker compose"
    fi
    services="browser-relay error-tracker metrics-collector log-viewer"
    for service in $services; do
        $docker_compose ps -q "$service" >"$work/$service" 2>"$work/error" || cat "$work/error"
    done
    # A service that does not stop in time is killed, which changes its exit code.
    $docker_compose stop --timeout $stop_timeout_s >"$work/error" 2>&1 || cat "$work/error"
    for service in $services; do
        name="compose: $service exits with code 0 within $stop_timeout_s s"
        state=$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$(cat "$work/$service")" 2>&1) || true
        if [ "$state" = "exited 0" ]; then report_pass "$name"; else report_failure "$name" "exited 0" "$state"; fi
    done
    $docker_compose start >"$work/error" 2>&1 || cat "$work/error"
    deadline=$(($(date +%s) + start_timeout_s))
    unreachable=
    for service in errors logs metrics relay; do
        until
            send_request "$(base_url $service)" /health
            [ "$status" = 200 ] || [ "$(date +%s)" -ge $deadline ]
        do
            unreachable=
            sleep 1
        done
        expect "compose: $service responds after the restart" 200 '"status":"ok"'
    done
}
[ -z "$compose" ] || restart_services

printf 'finished in %s s\n%s passed, %s failed\n' $(($(date +%s) - started_s)) $passed $failed
[ $failed = 0 ]
