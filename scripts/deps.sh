#!/bin/sh
# Provides what the tests need beyond Go: redis-server, libfaketime, on Linux a C compiler for the
# race detector, node with the WeChat SDKs that are driven through the gateway, Chromium and axe-core for
# the pages, and promtool for the metrics and alerts. It says what it will install before it begins, and
# nothing when all is there.
#
# On Debian and its kin it installs packages as root. Without root it unpacks redis-server and
# libfaketime into .cache/deps, where the Makefile's PATH finds them. Elsewhere it only says what
# to install. The SDKs go into .cache/sdk, axe-core into .cache/ui. promtool is unpacked into .cache/deps
# also as root: its package would start a Prometheus. The SDKs, Chromium, axe-core and promtool may be
# missing: their tests are then skipped, or fail where CI is set.
set -eu
cd "$(dirname "$0")/.."
deps=$PWD/.cache/deps
PATH=$deps/usr/bin:$PATH

# Where internal/redistest looks for it: beside redis-server, and in the system's own place.
faketime() {
    for lib in "$deps"/usr/lib/*/faketime/libfaketime.so.1 /usr/lib/*/faketime/libfaketime.so.1; do
        [ -e "$lib" ] && return
    done
    return 1
}

have() { command -v "$1" >/dev/null 2>&1; }

say() { echo "deps: $*" >&2; }

die() {
    say "$@"
    exit 1
}

# install_deb installs Debian's packages, as root.
install_deb() {
    say "installing with apt-get: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update &&
        apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >&2
}

# modules brings what the lock file of a folder names from npm into .cache. A copy of that file, made last, says
# that all of it is there.
have_modules() { have node && cmp -s "$1/package-lock.json" ".cache/$2/installed.json"; }
modules() {
    from=$1 to=.cache/$2 what=$3 without=$4
    have_modules "$from" "$2" && return
    if ! have node || ! have npm; then
        say "no node 18 and npm, so $without. On Debian, as root: apt-get install nodejs npm"
        return
    fi
    say "installing $what of $from with npm into $to"
    mkdir -p "$to"
    rm -f "$to/installed.json"
    cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$to"
    if (cd "$to" && npm ci --loglevel=error >&2); then
        cp "$from/package-lock.json" "$to/installed.json"
    else
        say "npm ci did not succeed, so $without"
    fi
}

sdk=cmd/wxproxy/testdata/sdk
ui=admin/ui
have_npm() { have_modules $sdk sdk && have_modules $ui ui; }
npm_modules() {
    modules $sdk sdk "the WeChat SDKs" "the test of the WeChat SDKs will not run"
    modules $ui ui "axe-core and what the pages are built on" "the pages will not be checked for accessibility"
}

# apt_lists fetches lists of our own, since those of the system are root's.
apt=$PWD/.cache/apt
own="-qq -o Dir::State::Lists=$apt/lists -o Dir::Cache=$apt -o Debug::NoLocking=1 -o APT::Sandbox::User="
apt_lists() {
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$deps"
    # shellcheck disable=SC2086 # options
    apt-get $own update
}

# unpack_deb downloads Debian packages and unpacks them into .cache/deps, without installing anything.
unpack_deb() {
    # shellcheck disable=SC2086 # options
    (cd "$apt/archives" && apt-get $own download "$@" >&2) || return
    for package in "$apt"/archives/*.deb; do
        dpkg -x "$package" "$deps" || return
    done
    rm -rf "$apt"
}

# prometheus brings promtool, which checks the metrics, the alerts and the dashboard.
prometheus() {
    have promtool && return
    without="the tests of metrics, alerts and dashboard will not run"
    if ! have apt-get || ! have dpkg; then
        say "no promtool, so $without: it comes with Prometheus"
        return
    fi
    say "unpacking promtool from Debian's package prometheus into .cache/deps"
    # Its package would start a server, and its server would take 100 MB.
    if apt_lists && unpack_deb prometheus; then
        rm -f "$deps/usr/bin/prometheus"
    else
        say "not unpacked, so $without"
    fi
}

# A page in it tries to use the gateway.
have_browser() { have chromium || have chromium-browser || have google-chrome; }

have go || die "no go on PATH: install Go 1.26 or newer from https://go.dev/dl/"

# What the tests need, and what some of them need that are skipped without.
missing=
wanted=
have redis-server || missing="$missing redis-server"
if [ "$(uname -s)" = Linux ]; then
    faketime || missing="$missing libfaketime"
    # It knows the compiler that cgo will use: CC, or gcc.
    have "$(go env CC | cut -d ' ' -f 1)" || missing="$missing gcc libc6-dev"
fi
have node && have npm || have_npm || wanted="$wanted nodejs npm"
have_browser || wanted="$wanted chromium"

root=
have apt-get && [ "$(id -u)" = 0 ] && root=yes
[ -n "$root" ] || [ -z "$wanted" ] || say "some tests will be skipped without these, which are installed as root only:$wanted"

# The plan, before anything is fetched.
plan=
[ -z "$missing" ] || plan="$plan; Debian packages:$missing"
[ -z "$root" ] || [ -z "$wanted" ] || plan="$plan; Debian packages for some tests:$wanted (chromium is about 100 MB, npm brings 300 small ones)"
have_npm || { [ -z "$root" ] && { ! have node || ! have npm; }; } || plan="$plan; WeChat's SDKs and axe-core from npm into .cache (25 MB)"
have promtool || ! have apt-get || plan="$plan; promtool from Debian's package prometheus, unpacked into .cache/deps (20 MB)"
if [ -n "$plan" ]; then
    say "to be installed first:${plan#;}"
    say "that takes 1 to 5 minutes, once; make quick installs nothing"
fi

if [ -n "$missing" ]; then
    [ "$(uname -s)" != Darwin ] || die "the tests need redis-server: brew install redis"
    have apt-get || die "the tests need these, by the names of Debian's packages:$missing. Install them and run this again"
fi
if [ -n "$root" ]; then
    # shellcheck disable=SC2086 # lists
    [ -z "$missing" ] || install_deb $missing
    # shellcheck disable=SC2086 # a list
    [ -z "$wanted" ] || install_deb $wanted || say "not installed, so some tests will not run:$wanted"
    missing=
fi
prometheus
if [ -z "$missing" ]; then
    npm_modules
    exit 0
fi

case $missing in
*gcc*) die "the race detector needs a C compiler: run as root: apt-get install gcc libc6-dev" ;;
esac

say "not root: unpacking into .cache/deps:$missing"
apt_lists
# What an installation would add, so that libraries come along.
# shellcheck disable=SC2086 # options and a list
packages=$(apt-get $own --simulate install --no-install-recommends $missing | sed -n 's/^Inst \([^ ]*\).*/\1/p')
# shellcheck disable=SC2086 # a list
unpack_deb $packages

# Its libraries lie where the loader does not look, so it is started by a script that says where.
if [ -e "$deps/usr/bin/redis-server" ]; then
    mkdir -p "$deps/usr/libexec"
    cp -L "$deps/usr/bin/redis-server" "$deps/usr/libexec/redis-server" # in Debian a symlink to redis-check-rdb
    rm "$deps/usr/bin/redis-server"
    libs=$(find "$deps/usr/lib" "$deps/lib" -name '*.so.*' -exec dirname {} \; 2>/dev/null | sort -u | grep -v /faketime | paste -sd : -)
    cat >"$deps/usr/bin/redis-server" <<SCRIPT
#!/bin/sh
export LD_LIBRARY_PATH="$libs"
exec "$deps/usr/libexec/redis-server" "\$@"
SCRIPT
    chmod +x "$deps/usr/bin/redis-server"
fi
have redis-server && redis-server --version >/dev/null || die "the unpacked redis-server does not start"

npm_modules
