#!/usr/bin/env bash
# Runs the conformance suite on every engine and prints what came of it as one table, engine by case, for ARCHITECTURE.md.
# Usage: conformance.sh
set -euo pipefail

cd "$(dirname "$0")/../.."
output=$(mktemp)
trap 'rm -f "$output"' EXIT
cargo nextest run --locked --config-file .ci/nextest.toml --retries 0 --test it --success-output final \
  --failure-output final -E 'test(/_conforms/)' >"$output" 2>&1 || { cat "$output" >&2; exit 1; }
awk '
  $2 == "ok" || $2 == "n.a." {
    if (!($1 in seen)) { seen[$1] = 1; engines[++columns] = $1 }
    if (!($3 in known)) { known[$3] = 1; cases[++rows] = $3 }
    result[$1, $3] = $2
  }
  END {
    printf "| case |"; for (c = 1; c <= columns; c++) printf " %s |", engines[c]
    printf "\n|---|"; for (c = 1; c <= columns; c++) printf "---|"
    print ""
    for (r = 1; r <= rows; r++) {
      name = cases[r]; gsub(/_/, " ", name); printf "| %s |", name
      for (c = 1; c <= columns; c++) { mark = result[engines[c], cases[r]]; printf " %s |", mark == "ok" ? "✓" : "–" }
      print ""
    }
  }' "$output"
