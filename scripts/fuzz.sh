#!/bin/sh
# Runs every fuzz target of the module for a while, 10s or as FUZZTIME says.
set -eu
cd "$(dirname "$0")/.."
for package in $(go list ./...); do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
        echo "$package $target"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$package"
    done
done
