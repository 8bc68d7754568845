#!/bin/sh
# Copies what the pages are built on from npm into admin/ui/vendor, after a change of admin/ui/package.json and its
# lock (npm install --package-lock-only). npm checks the packages against the lock; SUMS says which file is from
# which, and a test compares them with it.
set -eu
cd "$(dirname "$0")/.."
cmp -s admin/ui/package-lock.json .cache/ui/installed.json || {
    echo "vendor-ui: .cache/ui is not what admin/ui/package-lock.json names: run make deps first" >&2
    exit 1
}
vendor=admin/ui/vendor
modules=.cache/ui/node_modules
rm -rf "$vendor"
mkdir -p "$vendor"
: >"$vendor/SUMS"

# take copies a file. Modules find each other by their place, for there is no import map: it would have to stand in
# the page itself, which forbids inline scripts. Maps of the sources are not shipped.
take() {
    package=$1 file=$2 name=$3
    sed -e 's#from"preact"#from"./preact.mjs"#' -e '/^\/\/# sourceMappingURL=/d' "$modules/$package/$file" >"$vendor/$name"
    version=$(node -p "require('./$modules/$package/package.json').version")
    printf '%s  %s  %s@%s/%s\n' "$(sha256sum "$vendor/$name" | cut -d ' ' -f 1)" "$name" "$package" "$version" "$file" >>"$vendor/SUMS"
}

take preact dist/preact.mjs preact.mjs
take preact hooks/dist/hooks.mjs hooks.mjs
take preact LICENSE LICENSE-preact
take htm dist/htm.module.js htm.module.js
take htm LICENSE LICENSE-htm
take uplot dist/uPlot.iife.min.js uPlot.iife.min.js
take uplot dist/uPlot.min.css uPlot.min.css
take uplot LICENSE LICENSE-uPlot
