#!/bin/sh
# Tries a running Monlight from end to end, as its clients do: errors, metrics, logs, pages in browsers, keys, origins,
# limits. Needs a POSIX shell and curl. A line for each check says ok, or FAIL with what was expected and what came.
set -eu

usage() {
    cat <<'END'
Usage: deploy/smoke-test.sh [--secrets FILE] [--compose]

Tries a running Monlight from end to end. Exits with 0 when every check passed, with 1 when one failed, and with 2 when
it cannot be told what to try. What it creates has a project of its own; keys and maps are removed, errors resolved.

  --secrets FILE  takes what is not set below from the lines NAME=value of a file such as deploy/secrets.env
  --compose       also stops the services with docker compose, which each must outlive by no more than 5 s and end
                  with code 0, and starts them again

Environment variables (defaults in brackets):

  ERRORS_URL       The error tracker [http://localhost:5010]
  LOGS_URL         The log viewer [http://localhost:5011]
  METRICS_URL      The metrics collector [http://localhost:5012]
  RELAY_URL        The browser relay [http://localhost:5013]
  API_KEY          The key of all of them; required, but where each has its own
  ERRORS_KEY       The error tracker's key [API_KEY]
  LOGS_KEY         The log viewer's key [API_KEY]
  METRICS_KEY      The metrics collector's key [API_KEY]
  ADMIN_API_KEY    The browser relay's key [API_KEY]
  ORIGIN           An origin that is listed in the relay's CORS_ORIGINS [its first one in --secrets, else
                   http://localhost:3000]; empty leaves that out
  RELAY_RATE_LIMIT The relay's RATE_LIMIT [300]; 0 leaves that out
  CURL_CA_BUNDLE   A PEM file of roots to trust, for private servers (curl's own)
END
}

complain() {
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
        [ $# -ge 2 ] || complain "--secrets needs a file"
        secrets=$2
        [ -r "$secrets" ] || complain "$secrets cannot be read"
        shift
        ;;
    --compose) compose=1 ;;
    *) complain "unknown argument $1; --help lists what there is" ;;
    esac
    shift
done

# The value of a name in the file of secrets; nothing where there is none.
secret() {
    [ -z "$secrets" ] || sed -n "s/^$1=//p" "$secrets" | tail -n 1
}
origins=$(secret CORS_ORIGINS)
# Names with a star are not origins that a page could have.
origin=$(printf '%s\n' "${origins:-http://localhost:3000}" | tr ',' '\n' | sed -n '/\*/d; s/^ *//; s/ *$//; p; q')
origin=${ORIGIN-$origin}
errors=${ERRORS_URL:-http://localhost:5010}
logs=${LOGS_URL:-http://localhost:5011}
metrics=${METRICS_URL:-http://localhost:5012}
relay=${RELAY_URL:-http://localhost:5013}
key=${API_KEY:-$(secret API_KEY)}
errors_key=${ERRORS_KEY:-$key}
logs_key=${LOGS_KEY:-$key}
metrics_key=${METRICS_KEY:-$key}
relay_key=${ADMIN_API_KEY:-$(secret ADMIN_API_KEY)}
relay_key=${relay_key:-$key}
for needed in "$errors_key" "$logs_key" "$metrics_key" "$relay_key"; do
    [ -n "$needed" ] || complain "API_KEY is required (or --secrets deploy/secrets.env); --help lists what there is"
done
rate_limit=${RELAY_RATE_LIMIT:-300}
command -v curl >/dev/null || complain "curl is needed"

# How long one answer may take, and one connection.
answer_within_s=10
connect_within_s=3
# How long supervisors wait before they kill.
stop_within_s=5
# How long services may take to be there again.
start_within_s=20
# More than proxies let through that were not told of source maps.
map_bytes=2000000

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Keys are given to curl in files, since everybody may read the arguments of a process.
holds() {
    printf '%s: %s\n' "$2" "$3" >"$work/$1"
}
holds errors-key X-API-Key "$errors_key"
holds logs-key X-API-Key "$logs_key"
holds metrics-key X-API-Key "$metrics_key"
holds relay-key X-API-Key "$relay_key"
holds wrong-key X-API-Key "not-the-key-$$"
holds wrong-public-key X-Monlight-Key 00000000000000000000000000000000
# Until there is one.
cp "$work/wrong-public-key" "$work/public-key"

passed=0
failed=0
ok() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$1"
}
# What was checked, what was expected, what came.
fail() {
    failed=$((failed + 1))
    printf 'FAIL  %s: expected %s; got %s\n' "$1" "$2" "$3"
}
left_out() {
    printf -- '--    %s: left out, since %s\n' "$1" "$2"
}

# Services that could not be reached, so that each costs its patience once.
gone=
# Asks the service at the URL $1 for the path $2; the rest is curl's. The answer is in $status and in the files body and
# head.
ask() {
    base=$1
    address=$1$2
    shift 2
    : >"$work/body"
    : >"$work/head"
    case " $gone " in
    *" $base "*)
        status="no answer, as before"
        return
        ;;
    esac
    code=0
    status=$(curl --silent --show-error --globoff --connect-timeout $connect_within_s --max-time $answer_within_s \
        --output "$work/body" --dump-header "$work/head" --write-out '%{http_code}' "$@" -- "$address" \
        2>"$work/why") || code=$?
    case $code in
    0) ;;
    6 | 7 | 28)
        gone="$gone $base"
        status="no answer ($(cat "$work/why"))"
        ;;
    *) status="no answer ($(cat "$work/why"))" ;;
    esac
}

# The beginning of what came.
answer() {
    printf '%s %s' "$status" "$(tr '\n' ' ' <"$work/body" | cut -c 1-300)"
}

# That the answer has this status, and these texts in its body.
expect() {
    name=$1
    wanted=$2
    shift 2
    if [ "$status" != "$wanted" ]; then
        fail "$name" "$wanted${1:+ with $1}" "$(answer)"
        return
    fi
    for text; do
        if ! grep -qF -e "$text" "$work/body"; then
            fail "$name" "$wanted with $text" "$(answer)"
            return
        fi
    done
    ok "$name"
}

# The value of a header of the answer.
header() {
    tr -d '\r' <"$work/head" | awk -v name="$1:" 'tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); value = $0 }
        END { print value }'
}

# That a header of the answer has this value; an empty one is none at all.
expect_header() {
    value=$(header "$2")
    if [ "$value" = "$3" ]; then
        ok "$1"
    else
        fail "$1" "$2: ${3:-nothing}" "${value:-nothing} ($(answer))"
    fi
}

# The id in the body. Where there is none, the checks that need it go on with one that nothing has.
id() {
    found=$(sed -n 's/.*"id":\([0-9][0-9]*\).*/\1/p' "$work/body")
    printf '%s' "${found:-0}"
}

# Where a service is.
url() {
    case $1 in
    errors) printf '%s' "$errors" ;;
    logs) printf '%s' "$logs" ;;
    metrics) printf '%s' "$metrics" ;;
    relay) printf '%s' "$relay" ;;
    esac
}

project="smoke-$(date +%s)-$$"
begun=$(date +%s)
printf 'errors %s, logs %s, metrics %s, relay %s; project %s\n' "$errors" "$logs" "$metrics" "$relay" "$project"

for service in errors logs metrics relay; do
    ask "$(url $service)" /health
    expect "$service: /health says ok" 200 '"status":"ok"'
done

for service in errors logs metrics; do
    ask "$(url $service)" /
    expect "$service: a page is served at /" 200 '<!doctype html>'
    policy=$(header Content-Security-Policy)
    case $policy in
    *"default-src 'self'"*) ok "$service: the page has a Content-Security-Policy" ;;
    *) fail "$service: the page has a Content-Security-Policy" "default-src 'self'" "${policy:-nothing} ($status)" ;;
    esac
done
ask "$relay" /monlight.min.js --compressed
expect "relay: the browser package is served" 200 "MonlightConfig"

refuses() {
    ask "$2" "$3"
    expect "$1: no key is refused" 401 '"detail"'
    ask "$2" "$3" --header "@$work/wrong-key"
    expect "$1: a wrong key is refused" 401 '"detail"'
}
refuses errors "$errors" /api/errors
refuses logs "$logs" /api/logs
refuses metrics "$metrics" /api/metrics/names
refuses relay "$relay" /api/dsn-keys

# Errors: alike reports are one group.
cat >"$work/report" <<END
{"project":"$project","environment":"smoke","exception_type":"SmokeTest","message":"nothing is wrong",
"traceback":"Traceback (most recent call last):\n  File \"/app/smoke.py\", line 7, in check\nSmokeTest: nothing is wrong"}
END
report() {
    ask "$errors" /api/errors --header "@$work/errors-key" --data-binary "@$work/report"
}
report
expect "errors: a report opens a group" 201 '"status":"created"'
error=$(id)
report
expect "errors: a second one is counted in it" 200 '"status":"incremented"' '"count":2'
ask "$errors" "/api/errors?project=$project" --header "@$work/errors-key"
expect "errors: the group is listed" 200 "\"id\":$error," '"total":1'
ask "$errors" "/api/errors/$error" --header "@$work/errors-key"
expect "errors: the group has its traceback and reports" 200 '/app/smoke.py' '"occurrences":[{'
ask "$errors" "/api/errors/$error/resolve" --request POST --header "@$work/errors-key"
expect "errors: the group is resolved" 200 '"status":"resolved"'
report
expect "errors: a third report reopens it" 200 '"status":"reopened"' '"count":3'
ask "$errors" /api/projects --header "@$work/errors-key"
expect "errors: the project is listed" 200 "\"$project\""

# Metrics: points of one series are one bucket.
ask "$metrics" /api/metrics --header "@$work/metrics-key" --data-binary "[
{\"name\":\"smoke_test_total\",\"type\":\"counter\",\"value\":3,\"project\":\"$project\",\"labels\":{\"step\":\"one\"}},
{\"name\":\"smoke_test_total\",\"type\":\"counter\",\"value\":4,\"project\":\"$project\",\"labels\":{\"step\":\"one\"}}]"
expect "metrics: a batch is accepted" 202 '"count":2'
ask "$metrics" "/api/metrics?name=smoke_test_total&period=1h&labels=step:one&project=$project" --header "@$work/metrics-key"
expect "metrics: it counts at once" 200 '"count":2,' '"sum":7'
ask "$metrics" "/api/metrics/names?project=$project" --header "@$work/metrics-key"
expect "metrics: its name is listed" 200 '"smoke_test_total"'
ask "$metrics" "/api/dashboard?period=1h&project=$project" --header "@$work/metrics-key"
expect "metrics: the dashboard counts it" 200 '"total_datapoints":2'

# Logs.
ask "$logs" "/api/logs?limit=5" --header "@$work/logs-key"
expect "logs: entries are found" 200 '{"logs":[' '"total":'
ask "$logs" "/api/logs?search=nothing-is-called-$project" --header "@$work/logs-key"
expect "logs: what is not there is not found" 200 '{"logs":[]' '"total":0'
ask "$logs" /api/logs/containers --header "@$work/logs-key"
expect "logs: containers are listed" 200 '{"containers":['
ask "$logs" /api/logs/stats --header "@$work/logs-key"
expect "logs: entries are counted" 200 '"total_logs":'

# Pages in browsers: a key of their own, and what they report arrives at the services behind the relay.
ask "$relay" /api/dsn-keys --header "@$work/relay-key" --data-binary "{\"project\":\"$project\"}"
expect "relay: a public key is made" 201 '"public_key":"'
public_key_id=$(id)
public_key=$(sed -n 's/.*"public_key":"\([^"]*\)".*/\1/p' "$work/body")
[ -z "$public_key" ] || holds public-key X-Monlight-Key "$public_key"
ask "$relay" /api/dsn-keys --header "@$work/relay-key"
expect "relay: the public key is listed" 200 "\"project\":\"$project\""
page_error() {
    ask "$relay" /api/browser/errors "$@" --data-binary "{\"type\":\"SmokeTest\",\"message\":\"nothing is wrong\",
\"stack\":\"SmokeTest: nothing is wrong\n    at a (https://smoke.invalid/app.js:1:1)\",\"url\":\"https://smoke.invalid/\",
\"release\":\"$project\",\"environment\":\"smoke\"}"
}
page_error --header "@$work/wrong-public-key"
expect "relay: a wrong public key is refused" 401 '"detail"'
page_error
expect "relay: no public key is refused" 401 '"detail"'

# What is mapped must be there before the report that needs it.
{
    printf '{"project":"%s","release":"%s","file_url":"https://smoke.invalid/app.js","map_content":"' "$project" "$project"
    printf '{\\"version\\":3,\\"sources\\":[\\"src/cart.js\\"],\\"names\\":[],\\"mappings\\":\\"AAME\\",'
    printf '\\"sourcesContent\\":[\\"// '
    printf "%${map_bytes}s" '' | tr ' ' x
    printf '\\"]}"}'
} >"$work/map"
ask "$relay" /api/source-maps --header "@$work/relay-key" --data-binary "@$work/map"
expect "relay: a source map of 2 MB is stored" 201 '"status":"uploaded"'
map=$(id)
ask "$relay" "/api/source-maps?project=$project" --header "@$work/relay-key"
expect "relay: the source map is listed" 200 '"file_url":"https://smoke.invalid/app.js"'
page_error --header "@$work/public-key" ${origin:+--header "Origin: $origin"}
expect "relay: a page's report reaches the error tracker" 201 '"status":"created"'
if [ -n "$origin" ]; then
    expect_header "relay: the page may read the answer" Access-Control-Allow-Origin "$origin"
else
    left_out "relay: the page may read the answer" "ORIGIN is empty"
fi
page_error_id=$(id)
ask "$errors" "/api/errors?project=$project&source=browser" --header "@$work/errors-key"
expect "errors: the page's report is there" 200 "\"id\":$page_error_id," '"source":"browser"'
ask "$errors" "/api/errors/$page_error_id" --header "@$work/errors-key"
expect "errors: its stack is that of the sources" 200 'src/cart.js:7:3'

ask "$relay" /api/browser/metrics --header "@$work/public-key" --data-binary "{\"metrics\":[
{\"name\":\"smoke_test_page_ms\",\"type\":\"histogram\",\"value\":41.5,\"labels\":{}}],\"url\":\"https://smoke.invalid/cart\",
\"session_id\":\"$project\"}"
expect "relay: a page's metrics reach the collector" 202 '"status":"accepted"'
ask "$metrics" "/api/metrics?name=smoke_test_page_ms&period=1h&labels=source:browser,page:/cart&project=$project" \
    --header "@$work/metrics-key"
expect "metrics: the page's metrics are there" 200 '"count":1,' '"max":41.5'

# Origins: browsers ask before they send.
preflight() {
    ask "$relay" /api/browser/errors --request OPTIONS --header "Origin: $1" --header "Access-Control-Request-Method: POST" \
        --header "Access-Control-Request-Headers: content-type,x-monlight-key"
}
if [ -n "$origin" ]; then
    preflight "$origin"
    expect_header "relay: pages of $origin may report" Access-Control-Allow-Origin "$origin"
    expect_header "relay: and with credentials" Access-Control-Allow-Credentials true
    allowed=$(header Access-Control-Allow-Headers)
    case $allowed in
    *X-Monlight-Key*) ok "relay: and with their key" ;;
    *) fail "relay: and with their key" "Access-Control-Allow-Headers: X-Monlight-Key" "${allowed:-nothing} ($(answer))" ;;
    esac
else
    left_out "relay: pages of listed origins may report" "ORIGIN is empty"
fi
preflight https://elsewhere.invalid
if [ "$status" = 204 ]; then
    expect_header "relay: pages of other origins are not let in" Access-Control-Allow-Origin ""
    expect_header "relay: nor with credentials" Access-Control-Allow-Credentials ""
else
    fail "relay: pages of other origins are not let in" 204 "$(answer)"
    fail "relay: nor with credentials" 204 "$(answer)"
fi
if [ -n "$origin" ]; then
    page_error --header "@$work/public-key" --header "Origin: https://elsewhere.invalid"
    expect "relay: nor do their reports count" 403 '"detail"'
else
    left_out "relay: reports of other origins do not count" "ORIGIN is empty"
fi

# A limit that counts nobody but the key that was made above: that key asks for more than it may, at once.
if [ "$rate_limit" -gt 0 ]; then
    # Of each answer its status, and beside the refusals how long to wait.
    : >"$work/rates"
    case " $gone " in
    *" $relay "*) ;;
    *)
        curl --silent --max-time $((answer_within_s * 3)) --header "@$work/public-key" --data-binary '{}' \
            --output /dev/null --dump-header - "$relay/api/browser/errors?n=[1-$((rate_limit + 1))]" 2>"$work/why" |
            tr -d '\r' | sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p; s/^\(retry-after: *[0-9].*\)/\1/Ip' >"$work/rates"
        ;;
    esac
    refused=$(grep -c '^429' "$work/rates" || true)
    waits=$(grep -ci '^retry-after' "$work/rates" || true)
    came="$(sort "$work/rates" | uniq -c | tr -s ' \n' ' ')"
    if [ "$refused" -gt 0 ] && [ "$waits" -ge "$refused" ]; then
        ok "relay: over $rate_limit requests a minute are refused, with Retry-After"
    else
        fail "relay: over $rate_limit requests a minute are refused, with Retry-After" \
            "429 and Retry-After within $((rate_limit + 1)) requests" "${came:- nothing}"
    fi
else
    left_out "relay: more requests than allowed are refused" "RELAY_RATE_LIMIT is 0"
fi

# Nothing is left but what has an end of its own: counts of errors, and points.
ask "$relay" "/api/source-maps/$map" --request DELETE --header "@$work/relay-key"
expect "relay: the source map is deleted" 200 '"status":"deleted"'
ask "$relay" "/api/dsn-keys/$public_key_id" --request DELETE --header "@$work/relay-key"
expect "relay: the public key is taken out of use" 200 '"status":"deactivated"'
page_error --header "@$work/public-key"
expect "relay: and is refused from then on" 401 '"detail"'
ask "$errors" "/api/errors/$error/resolve" --request POST --header "@$work/errors-key"
expect "errors: the group is resolved at the end" 200 '"status":"resolved"'
ask "$errors" "/api/errors/$page_error_id/resolve" --request POST --header "@$work/errors-key"
expect "errors: the page's report is resolved at the end" 200 '"status":"resolved"'

# Ends and begins all services of the compose project.
restart() {
    cd "$(dirname "$0")/.."
    docker_compose=docker-compose
    if docker compose version >/dev/null 2>&1; then
        docker_compose="docker compose"
    fi
    services="browser-relay error-tracker metrics-collector log-viewer"
    for service in $services; do
        $docker_compose ps -q "$service" >"$work/$service" 2>"$work/why" || cat "$work/why"
    done
    # Whoever is still there afterwards is killed, which its exit code says.
    $docker_compose stop --timeout $stop_within_s >"$work/why" 2>&1 || cat "$work/why"
    for service in $services; do
        name="compose: $service ends by itself within $stop_within_s s"
        code=$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$(cat "$work/$service")" 2>&1) || true
        if [ "$code" = "exited 0" ]; then ok "$name"; else fail "$name" "exited 0" "$code"; fi
    done
    $docker_compose start >"$work/why" 2>&1 || cat "$work/why"
    deadline=$(($(date +%s) + start_within_s))
    gone=
    for service in errors logs metrics relay; do
        until
            ask "$(url $service)" /health
            [ "$status" = 200 ] || [ "$(date +%s)" -ge $deadline ]
        do
            gone=
            sleep 1
        done
        expect "compose: $service is there again" 200 '"status":"ok"'
    done
}
[ -z "$compose" ] || restart

printf 'in %s s\n%s passed, %s failed\n' $(($(date +%s) - begun)) $passed $failed
[ $failed = 0 ]
