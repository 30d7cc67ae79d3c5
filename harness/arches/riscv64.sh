# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# riscv64, which also runs riscv32 programs, for which Debian has no C library. Linux
# has Rust for riscv64 with clang only. The QEMU of Debian 12 drops its TLB at each
# access to user memory and takes five times as long, so QEMU comes from the backports.

KARCH=riscv IMAGE=arch/riscv/boot/Image CROSS=riscv64-linux-gnu-
ABIS=(riscv64) MACHINES=RISC-V
COMPILERS=([riscv64]=riscv64-linux-gnu-gcc)
BARE=([riscv32]="clang-$LLVM_RELEASE --target=riscv32-linux-gnu -march=rv32imac -mabi=ilp32")
HEADERS=([riscv64]=riscv [riscv32]=riscv)
DEB_ARCHES=([riscv64]=riscv64) CONSOLE=ttyS0
DEPS=(
	[guest]=qemu-system-misc
	[demo]='make rsync gcc-riscv64-linux-gnu libc6-dev-riscv64-cross'
	[programs]="clang-$LLVM_RELEASE lld-$LLVM_RELEASE"
)
UNPACK=([guest]='qemu-riscv64 qemu-system-riscv opensbi')
QEMU=("$CACHE/tools/qemu-riscv64/usr/bin/qemu-system-riscv64" -M virt -cpu rv64)
VIRTIO_SERIAL=virtio-serial-device

boot_parameters() { :; }
