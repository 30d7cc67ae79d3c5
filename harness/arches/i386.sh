# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# i386, for the matrix only: a kernel without Rust.

source "$TOP/harness/arches/x86_64.sh"
KARCH=i386 ABIS=(i386) MACHINES=80386
