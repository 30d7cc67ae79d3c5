# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# x86-64, which also runs i386 programs.

KARCH=x86_64 IMAGE=arch/x86/boot/bzImage CROSS=
ABIS=(x86_64 i386) MACHINES='X86-64|80386'
COMPILERS=([x86_64]=gcc [i386]=i686-linux-gnu-gcc)
HEADERS=([x86_64]=x86 [i386]=x86)
DEB_ARCHES=([x86_64]=amd64 [i386]=i386) CONSOLE=ttyS0
DEPS=(
	[guest]='qemu-system-x86 gcc libc6-dev'
	[demo]='gcc libc6-dev make rsync'
	[programs]='gcc-i686-linux-gnu libc6-dev-i386-cross'
	[gcc]=gcc
	[oldest]=gcc-$OLDEST_GCC
	[system]=debian-archive-keyring
)
QEMU=(qemu-system-x86_64 -M "microvm,acpi=off,x-option-roms=off,pic=on,pit=on,rtc=on"
	-cpu "max,migratable=off,+invtsc")
VIRTIO_SERIAL=virtio-serial-device

boot_parameters() {
	# On a busy host the kernel's test of the timer can fail.
	echo "reboot=t tsc=reliable no_timer_check"
	# identify_cpu() clears the features of the boot CPU for a moment. With five
	# levels of page tables, KASAN then reports each access of an interrupt.
	[[ $CONFIG != *debug* ]] || echo no5lvl
	# Without ICOUNT the guest has the time stamp counter of the host, and cannot
	# measure it.
	[[ -n $ICOUNT ]] || echo "tsc_early_khz=$(tsc_khz)"
}
