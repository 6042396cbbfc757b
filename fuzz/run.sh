#!/bin/sh
# Runs all fuzz targets, or those given as arguments, one after another for FUZZ_SECONDS each (default 600) and prints a
# table of the results. Crashing inputs are saved in fuzz/artifacts, new corpus entries in fuzz/target/grown.
set -eu
cd "$(dirname "$0")"
export PATH="$PWD/../target/tools/bin:$PATH"
# SQLite has local constants of one name in two functions, which this check reports as duplicate definitions.
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
    # libFuzzer's own timeout does not catch every hang, so kill the run 300 s after it should have ended.
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
