# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# arm64, which also runs AArch32 programs.

KARCH=arm64 IMAGE=arch/arm64/boot/Image CROSS=aarch64-linux-gnu-
ABIS=(arm64 arm) MACHINES='AArch64|ARM'
COMPILERS=([arm64]=aarch64-linux-gnu-gcc [arm]=arm-linux-gnueabihf-gcc)
HEADERS=([arm64]=arm64 [arm]=arm)
DEB_ARCHES=([arm64]=arm64 [arm]=armhf) CONSOLE=ttyAMA0
DEPS=(
	[guest]=qemu-system-arm
	[demo]='make rsync gcc-aarch64-linux-gnu libc6-dev-arm64-cross'
	[programs]='gcc-arm-linux-gnueabihf libc6-dev-armhf-cross'
	[gcc]=gcc-aarch64-linux-gnu
	[oldest]=gcc-$OLDEST_GCC-aarch64-linux-gnu
	[system]='arch-test qemu-user-static'
)
QEMU=(qemu-system-aarch64 -M virt -cpu "max,pauth-impdef=on")
VIRTIO_SERIAL=virtio-serial-device

boot_parameters() {
	# KASAN by tags keeps the addresses of recent objects in memory that kmemleak
	# scans, so that kmemleak would miss leaks.
	[[ $CONFIG != *swtags* ]] || echo kasan.stacktrace=off
}
