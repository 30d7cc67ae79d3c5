# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Shared by all scripts under harness/: the paths, the failure of a script, the progress
# of a long step, and the marks of finished steps.  Sourced, never run.

set -Eeuo pipefail
# A command that fails where nobody looks at it must not end a script in silence.
# A subshell has said itself what was wrong.
trap '[[ $BASH_COMMAND == "("* ]] ||
	printf "error: %s:%s: %s\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR

# The release that the overlay is written against.
readonly BASE_VERSION=7 BASE_PATCHLEVEL=3
# The LLVM release that builds the kernel: rustc's own LLVM has to be the same
# for CONFIG_RUST_INLINE_HELPERS.
readonly LLVM_RELEASE=22
# The bindgen that knows the libclang of this LLVM.
readonly BINDGEN_VERSION=0.73.2
# TOOLCHAIN=oldest: what scripts/min-tool-version.sh of the base asks for in Rust, and
# the oldest GCC that Debian 12 has.
readonly OLDEST_RUST=1.85.0 OLDEST_BINDGEN=0.71.1 OLDEST_GCC=12

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly TOP
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/robust_list2
readonly OLDEST=$CACHE/tools/rust-$OLDEST_RUST-bindgen-$OLDEST_BINDGEN

# A checkout's own patched tree and builds: named after the checkout's path, so
# that two clones never share one, below the cache, so that a checkout stays
# clean and ccache sees the same relative paths from every clone.
BUILD_ROOT=$CACHE/build/$(basename "$TOP")-$(printf %s "$TOP${KSRC:+ $KSRC}" | sha256sum | cut -c1-8)
readonly BUILD_ROOT
readonly SOURCE_TREE=$BUILD_ROOT/linux

# A rustup toolchain in front of the distribution's has no rust-src; make would
# then drop CONFIG_RUST without a word.
export PATH=/usr/bin:$CACHE/tools/bin:$PATH
export LC_ALL=C

# All messages go to stderr: stdout belongs to what a command was asked for.
say() { printf '%s\n' "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

# The architectures that have the calls.  What an architecture is made of is in
# harness/arches/ARCH.sh and harness/configs/ARCH.config, and nowhere else.
readonly ALL_ARCHES=(x86_64 arm64 riscv64 loongarch64)

# set_arch ARCH: checks ARCH and sets what scripts know of it:
#  KARCH, IMAGE       what the kernel's make calls it, and the path of the image
#  CROSS              what the names of GCC's programs begin with
#  ABIS               the ABIs of its programs, the kernel's own first
#  COMPILERS, HEADERS by ABI: the compiler, and what "make headers_install" calls it
#  BARE               by ABI that Debian has no C library for: the compiler
#  MACHINES           the machines of its programs, in the words of readelf
#  DEB_ARCHES         by ABI: Debian's name for it; DEB_ARCH is that of the kernel's own
#  CONSOLE            the guest's console
#  DEPS               by purpose (guest, programs, gcc, oldest, system): Debian's packages
#  UNPACK             by purpose: a name, and packages of another release of Debian,
#                     which are not installed
#  QEMU               QEMU's program, machine and CPU
#  VIRTIO_SERIAL      QEMU's device for the channels to the host
#  boot_parameters    what is on the command line of its kernels
set_arch() {
	ARCH=${1:-}
	[[ $ARCH =~ ^[a-z0-9_]+$ && -f $TOP/harness/arches/$ARCH.sh ]] ||
		die "ARCH=$ARCH is not known: use ARCH=$(sed 's/ /, /g; s/, \([^ ]*\)$/ or \1/' <<<"${ALL_ARCHES[*]}")"
	unset BARE COMPILERS HEADERS DEB_ARCHES DEPS UNPACK
	declare -gA BARE COMPILERS HEADERS DEB_ARCHES DEPS UNPACK
	# shellcheck source=harness/arches/x86_64.sh
	source "$TOP/harness/arches/$ARCH.sh"
	DEB_ARCH=${DEB_ARCHES[${ABIS[0]}]}
	export ARCH KARCH IMAGE
}

# Checks TOOLCHAIN, which comes from the environment, and sets what the directories of
# its builds end with.
set_toolchain() {
	TOOLCHAIN=${TOOLCHAIN:-clang} BUILT_BY=
	case $TOOLCHAIN in
	clang) ;;
	gcc | oldest) BUILT_BY=-$TOOLCHAIN ;;
	*) die "TOOLCHAIN=$TOOLCHAIN is not known: use TOOLCHAIN=clang, gcc or oldest" ;;
	esac
	export TOOLCHAIN
}

# Checks CONFIG and sets where it is built.  A tree lies under the name "linux" beside
# its build directories: the relative paths, which are what ccache sees, are the same
# for all of them.
set_config() {
	CONFIG=$1
	set_toolchain
	ROOT=$BUILD_ROOT
	[[ +$CONFIG+ != *+pristine+* ]] || ROOT=$BUILD_ROOT/pristine
	ROOT=${BUILD_IN:-$ROOT}
	OBJ=$ROOT/$ARCH-$CONFIG$BUILT_BY TREE=$ROOT/linux LOGS=$ROOT/logs/$ARCH-$CONFIG$BUILT_BY
}

# set_arches CONFIG: sets "arches" to those of ARCHES that have what it asks for.
set_arches() {
	local arch
	arches=()
	for arch in ${ARCHES:-x86_64 arm64}; do
		(set_arch "$arch") || exit
		[[ +$1+ == *+swtags+* && $arch != arm64 ]] || arches+=("$arch")
	done
}

# abis_of CONFIG: the ABIs of ARCH that such a kernel has, its own first.
abis_of() {
	if [[ $1 == *nocompat* ]]; then
		echo "${ABIS[0]}"
	else
		printf '%s\n' "${ABIS[@]}"
	fi
}

# with_lock NAME COMMAND...: one process at a time does what NAME stands for.
# The lock goes away with the process, however that ends.
with_lock() {
	local name=$1
	shift
	mkdir -p "$CACHE/locks" || die "cannot write to the cache, $CACHE"
	(
		if ! flock -n 9; then
			say "  waiting  another command is at work on $name"
			flock 9
		fi
		"$@" 9>&-
	) 9>"$CACHE/locks/${name//\//_}"
}

# Room that a step needs, in MiB, checked before it starts: a disk that fills up
# in the middle of a build gives an error that nobody understands.
need_space() {
	local dir=$1 mib=$2 free
	mkdir -p "$dir" || die "cannot create $dir"
	free=$(df --output=avail -m "$dir" | tail -n 1)
	((free >= mib)) ||
		die "$dir has $free MiB free and this step needs about $mib: free some, or set XDG_CACHE_HOME"
}

# step LOG LABEL COMMAND...: runs a long command with its output in a log and
# one line of progress; on failure shows the part of the log that matters.
step() {
	local log=$1 label=$2 start=$SECONDS status=0 pid
	shift 2
	mkdir -p "$(dirname "$log")"
	if [[ -n ${V:-} ]]; then
		say "  $label"
		"$@" > >(tee "$log" >&2) 2>&1 || status=$?
	else
		"$@" >"$log" 2>&1 &
		pid=$!
		if [[ -t 2 ]]; then
			while kill -0 "$pid" 2>/dev/null; do
				printf '\r  %s  %ds  %s lines\033[K' "$label" \
					$((SECONDS - start)) "$(wc -l <"$log")" >&2
				sleep 1
			done
			printf '\r\033[K' >&2
		fi
		wait "$pid" || status=$?
	fi
	if ((status)); then
		say "  $label: FAILED after $((SECONDS - start)) s"
		log_digest "$log" >&2
		say "The whole log: $log"
		return "$status"
	fi
	say "  $label  ($((SECONDS - start)) s)"
}

# The lines of a log that say why: the first errors, or the end where none is
# marked as one.
log_digest() {
	grep -n -m 20 -A 6 -E '^Diff in|(^|[^a-z_])(error|Error|fatal|FAILED|undefined symbol|No space left)([:\[ !]|$)' "$1" |
		grep -v -E 'make(\[[0-9]+\])?: \*\*\* Waiting' | head -n 60 | grep . || tail -n 25 "$1"
}
