#!/bin/sh
# Unpacks two CRIUs into a cache folder, where tests/it give them to the engines they start: Debian 13's, which works on
# today's kernels, and Debian 12's, which is there and does not.
#
# Nothing is installed: the packages are downloaded with an own list of sources and unpacked. `bin/criu` runs Debian
# 13's with its own loader and libraries; `unfit/criu` does the same with Debian 12's. Each suite's crun and runc lie
# beside its CRIU. A second run does nothing. Usage: criu.sh [FOLDER]
set -eu

folder=${1:-${ACTIONCONTROLLER_CRIU_DIR:-$HOME/.cache/actioncontroller/criu}}

[ -e "$folder/complete" ] && exit 0
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/unfit"

# The mirror that this machine uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "criu.sh: no Debian mirror is configured for apt" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Unpacks packages of a suite, with all that they need, into the suite's folder.
unpack() {
    suite=$1
    shift
    apt="$folder/apt-$suite"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$folder/$suite"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
    : >"$apt/status"
    for verb in update "install -y --download-only --no-install-recommends $*"; do
        # shellcheck disable=SC2086 # a list of words
        apt-get -q -q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::Etc::Parts=/dev/null -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" \
            -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root \
            -o Debug::NoLocking=1 $verb
    done
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$folder/$suite"
    done
    rm -rf "$apt"
}

# A program that runs a suite's CRIU.
wrap() {
    cat >"$folder/$2/criu" <<END
#!/bin/sh
root='$folder/$1'
paths=\$root/usr/lib/$(uname -m)-linux-gnu:\$root/lib/$(uname -m)-linux-gnu
for loader in "\$root"/lib64/ld-linux-*.so.* "\$root"/usr/lib64/ld-linux-*.so.* "\$root"/lib/ld-linux-*.so.*; do
    [ -e "\$loader" ] && exec "\$loader" --library-path "\$paths" "\$root/usr/sbin/criu" "\$@"
done
echo "criu: no loader below \$root" >&2
exit 1
END
    chmod 0755 "$folder/$2/criu"
}

unpack trixie criu crun libcriu2 libc6
unpack bookworm criu libc6
wrap trixie bin
wrap bookworm unfit

# Whether they run at all is seen once.
"$folder/bin/criu" --version
"$folder/unfit/criu" --version
: >"$folder/complete"
