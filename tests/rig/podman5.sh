#!/bin/sh
# Unpacks Debian 13's Podman 5 into a cache folder, where tests/it runs it beside the installed Podman 4.
#
# Nothing is installed: the packages are downloaded with an own list of sources and unpacked. The rig lays the folder's
# /usr over the machine's in a mount namespace of its own, so that Podman finds itself, its helpers and its libraries in
# their places. A second run does nothing. Usage: podman5.sh [FOLDER]
set -eu

folder=${1:-${ACTIONCONTROLLER_PODMAN5_DIR:-$HOME/.cache/actioncontroller/podman5}}
packages="podman crun conmon netavark aardvark-dns catatonit nftables libc6"

[ -e "$folder/complete" ] && exit 0
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/root"
apt="$folder/apt"

# The mirror that this machine uses, with the next suite.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "podman5.sh: no Debian mirror is configured for apt" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
: >"$apt/status"

apt_get() {
    apt-get -q -q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Parts=/dev/null -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root \
        -o Debug::NoLocking=1 "$@"
}
apt_get update
# shellcheck disable=SC2086 # a list of words
apt_get install -y --download-only --no-install-recommends $packages
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$folder/root"
done
rm -rf "$apt"

# Whether it runs here is seen once, the way the rig runs it.
unshare --mount --propagation private sh -c \
    'mount -t overlay -o "lowerdir=$1/root/usr:/usr" overlay /usr && exec podman --version' sh "$folder"
: >"$folder/complete"
