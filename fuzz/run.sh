#!/bin/sh
# Runs the targets one after the other, each for FUZZ_SECONDS (600), and says what they have come to. All of them, or
# those that are named. What they find lies in fuzz/artifacts, what they grow beside the corpus in fuzz/target/grown.
set -eu
cd "$(dirname "$0")"
export PATH="$PWD/../target/tools/bin:$PATH"
# gcc's own constants of one name in two functions of SQLite look like two definitions of one thing.
export ASAN_OPTIONS="detect_odr_violation=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
seconds=${FUZZ_SECONDS:-600}
logs=target/logs
mkdir -p "$logs"

cargo +nightly fuzz build
[ $# -gt 0 ] || set -- targets/*.rs
table=$(printf '%-16s %8s %12s %8s %8s\n' target seconds executions cov crashes)
failed=0
for target in "$@"; do
    target=$(basename "$target" .rs)
    grown=target/grown/$target
    mkdir -p "$grown" "artifacts/$target"
    log=$logs/$target.log
    # More time than it was given, and it hangs where its own alarm does not ring.
    timeout $((seconds + 300)) cargo +nightly fuzz run "$target" "$grown" "corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=25 -print_final_stats=1 >"$log" 2>&1 && crashes=0 || crashes=1
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    cov=$(sed -n 's/^#[0-9]*.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    took=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$log" | tail -n 1)
    row=$(printf '%-16s %8s %12s %8s %8s' "$target" "${took:--}" "${executions:--}" "${cov:--}" "$crashes")
    echo "$row"
    table=$table'
'$row
    if [ "$crashes" != 0 ]; then
        failed=1
        tail -n 40 "$log"
    fi
done
printf '\n%s\n' "$table"
exit $failed
