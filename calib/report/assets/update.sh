#!/usr/bin/env bash
# Fetch the page's libraries from npm, as published, and write down what they are.
# Usage: calib/report/assets/update.sh [tabulator version] [uPlot version]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # package version
    (cd "$work" && npm pack --silent "$1@$2" >/dev/null && mkdir -p "$1" \
        && tar xzf "$1"-*.tgz --strip-components=1 -C "$1")
}
fetch tabulator-tables "${1:-6}"
fetch uplot "${2:-1}"

cp "$work/tabulator-tables/dist/js/tabulator.min.js" "$here/tabulator.min.js"
cp "$work/tabulator-tables/dist/css/tabulator_simple.min.css" "$here/tabulator.min.css"
cp "$work/tabulator-tables/LICENSE" "$here/LICENSE.tabulator.txt"
cp "$work/uplot/dist/uPlot.iife.min.js" "$here/uplot.min.js"
cp "$work/uplot/dist/uPlot.min.css" "$here/uplot.min.css"
cp "$work/uplot/LICENSE" "$here/LICENSE.uplot.txt"

version() { node -p "require('$work/$1/package.json').version"; }
{
    echo "# Written by update.sh: tabulator-tables $(version tabulator-tables), uplot $(version uplot), from npm"
    (cd "$here" && sha256sum tabulator.min.js tabulator.min.css LICENSE.tabulator.txt \
        uplot.min.js uplot.min.css LICENSE.uplot.txt)
} >"$here/SHA256SUMS"
cat "$here/SHA256SUMS"
