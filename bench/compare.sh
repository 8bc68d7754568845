#!/bin/sh
# Runs the Go benchmarks of limits and proxy at a commit and in the working tree, in turns, and
# compares them with benchstat. COUNT and BENCHTIME may be set.
set -eu
cd "$(dirname "$0")/.."
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
count=${COUNT:-6}
time=${BENCHTIME:-0.5s}

if [ $# != 1 ] || ! commit=$(git rev-parse --verify --quiet "$1^{commit}"); then
    echo "compare: want a commit to compare with, as in: make bench-compare BASE=HEAD~1" >&2
    exit 2
fi
out=$PWD/.cache/bench/compare
base=$out/tree
mkdir -p "$out"
git worktree remove --force "$base" 2>/dev/null || true
git worktree prune
git worktree add --quiet --detach "$base" "$commit"
trap 'git worktree remove --force "$base"' EXIT INT TERM
: >"$out/base.txt"
: >"$out/now.txt"

run() { go -C "$1" test -run '^$' -bench . -benchmem -benchtime "$time" ./limits ./proxy; }

round=1
while [ "$round" -le "$count" ]; do
    echo "compare: round $round of $count" >&2
    run "$base" >>"$out/base.txt"
    run . >>"$out/now.txt"
    round=$((round + 1))
done
go run "$benchstat" "$1=$out/base.txt" "now=$out/now.txt"
