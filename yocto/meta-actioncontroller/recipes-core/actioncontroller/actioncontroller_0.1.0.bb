SUMMARY = "Action Controller: takes actions over gRPC and drives container runtimes"
DESCRIPTION = "System service of a vehicle computer that launches, stops and watches workloads on container engines, \
with its state kept across power cuts, and the command actionctl."
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# The checkout that this layer lies in.
FILESEXTRAPATHS:prepend := "${THISDIR}/../../../..:"
SRC_URI = " \
    file://Cargo.toml;subdir=${BP} \
    file://Cargo.lock;subdir=${BP} \
    file://LICENSE;subdir=${BP} \
    file://proto;subdir=${BP} \
    file://src;subdir=${BP} \
    file://config;subdir=${BP} \
"
S = "${UNPACKDIR}/${BP}"

# Every crate with its checksum, so that nothing but the fetch step needs a network.
require ${BPN}-crates.inc

DEPENDS = "cmake-native openssl zlib"

inherit cargo pkgconfig systemd useradd

# Symbols are split off by the package step, which needs them still there.
export CARGO_PROFILE_RELEASE_STRIP = "none"

SYSTEMD_SERVICE:${PN} = "actioncontroller.service"
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system actioncontroller"

do_install:append() {
    install -D -m 0644 ${S}/config/actioncontroller.yaml ${D}${sysconfdir}/actioncontroller/actioncontroller.yaml
    install -D -m 0644 -t ${D}${nonarch_libdir}/actioncontroller/config.d ${S}/config/config.d/*.yaml
    install -D -m 0644 -t ${D}${systemd_system_unitdir} ${S}/config/systemd/actioncontroller.service
    install -D -m 0644 -t ${D}${nonarch_libdir}/sysusers.d ${S}/config/sysusers.d/actioncontroller.conf
    install -D -m 0644 -t ${D}${nonarch_libdir}/tmpfiles.d ${S}/config/tmpfiles.d/actioncontroller.conf
}

PACKAGES =+ "actionctl"
SUMMARY:actionctl = "Command line of the Action Controller"
FILES:actionctl = "${bindir}/actionctl"

FILES:${PN} += " \
    ${nonarch_libdir}/actioncontroller \
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir} \
"
CONFFILES:${PN} = "${sysconfdir}/actioncontroller/actioncontroller.yaml"
RRECOMMENDS:${PN} = "actionctl podman"
