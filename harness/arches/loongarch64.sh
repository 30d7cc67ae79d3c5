# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# loongarch64, which has no 32-bit programs. Debian 12 lacks its compiler, and a QEMU
# that boots its kernels. So clang compiles with the C library of Debian 13, and QEMU
# comes from the backports of Debian 12.

KARCH=loongarch IMAGE=arch/loongarch/boot/vmlinux.elf CROSS=loongarch64-linux-gnu-
ABIS=(loongarch64) MACHINES=LoongArch
COMPILERS=([loongarch64]=$TOP/harness/arches/loongarch64-cc)
HEADERS=([loongarch64]=loongarch)
DEB_ARCHES=([loongarch64]=loong64) CONSOLE=ttyS0
DEPS=(
	[guest]=qemu-system-misc
	[demo]="make rsync clang-$LLVM_RELEASE lld-$LLVM_RELEASE"
	[programs]=""
)
UNPACK=(
	[guest]='qemu-loongarch64 qemu-system-misc qemu-system-data'
	[demo]='loong64-cross libc6-loong64-cross libc6-dev-loong64-cross
		linux-libc-dev-loong64-cross libgcc-s1-loong64-cross libgcc-14-dev-loong64-cross'
)
QEMU=("$CACHE/tools/qemu-loongarch64/usr/bin/qemu-system-loongarch64" -M virt -cpu la464)
VIRTIO_SERIAL=virtio-serial-pci

boot_parameters() { :; }
