# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Shared by all scripts under harness/: the paths, the failure of a script, the progress
# of a long step, and the marks of finished steps.  Sourced, never run.

set -Eeuo pipefail
# A command that fails unchecked must not end a script silently. A subshell has already
# reported its failure.
trap '[[ $BASH_COMMAND == "("* ]] ||
	printf "error: %s:%s: %s\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR

# The release that the overlay is written against.
readonly BASE_VERSION=7 BASE_PATCHLEVEL=3
# The LLVM release that builds the kernel. CONFIG_RUST_INLINE_HELPERS needs rustc's own
# LLVM release.
readonly LLVM_RELEASE=22
# The bindgen that supports the libclang of this LLVM.
readonly BINDGEN_VERSION=0.73.2
# TOOLCHAIN=oldest: Rust as in scripts/min-tool-version.sh of the base, and the oldest
# GCC of Debian 12.
readonly OLDEST_RUST=1.85.0 OLDEST_BINDGEN=0.71.1 OLDEST_GCC=12

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly TOP
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/robust_list2
readonly OLDEST=$CACHE/tools/rust-$OLDEST_RUST-bindgen-$OLDEST_BINDGEN

# The patched tree and the builds of a checkout are below the cache, so that the
# checkout stays clean. Their directory is named after the checkout's path, so that no
# two clones share it, and ccache sees the same relative paths from every clone.
BUILD_ROOT=$CACHE/build/$(basename "$TOP")-$(printf %s "$TOP${KSRC:+ $KSRC}" | sha256sum | cut -c1-8)
readonly BUILD_ROOT
readonly SOURCE_TREE=$BUILD_ROOT/linux

# A rustup toolchain before the distribution's has no rust-src, and make would silently
# drop CONFIG_RUST.
export PATH=/usr/bin:$CACHE/tools/bin:$PATH
export LC_ALL=C

# Messages go to stderr, because stdout is for the result of a command.
say() { printf '%s\n' "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

# The architectures with the calls. Only harness/arches/ARCH.sh and
# harness/configs/ARCH.config describe an architecture.
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
#  DEPS               by purpose (guest, demo, programs, gcc, oldest, system): Debian's
#                     packages; those of demo are for programs, too
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

# set_toolchain: checks TOOLCHAIN from the environment, and sets the suffix of its build
# directories.
set_toolchain() {
	TOOLCHAIN=${TOOLCHAIN:-clang} BUILT_BY=
	case $TOOLCHAIN in
	clang) ;;
	gcc | oldest) BUILT_BY=-$TOOLCHAIN ;;
	*) die "TOOLCHAIN=$TOOLCHAIN is not known: use TOOLCHAIN=clang, gcc or oldest" ;;
	esac
	export TOOLCHAIN
}

# check_toolchain: refuses an architecture that TOOLCHAIN does not build.
check_toolchain() {
	[[ $TOOLCHAIN == clang || -v DEPS[$TOOLCHAIN] ]] ||
		die "ARCH=$ARCH is not built by TOOLCHAIN=$TOOLCHAIN: use TOOLCHAIN=clang"
}

# set_config: checks CONFIG and sets its build directory. Each tree is called "linux"
# beside its build directories, so that ccache sees the same relative paths for all
# trees.
set_config() {
	CONFIG=$1
	set_toolchain
	ROOT=$BUILD_ROOT
	[[ +$CONFIG+ != *+pristine+* ]] || ROOT=$BUILD_ROOT/pristine
	ROOT=${BUILD_IN:-$ROOT}
	OBJ=$ROOT/$ARCH-$CONFIG$BUILT_BY TREE=$ROOT/linux LOGS=$ROOT/logs/$ARCH-$CONFIG$BUILT_BY
}

# set_arches CONFIG: sets "arches" to those of ARCHES that support the configuration.
set_arches() {
	local arch
	arches=()
	for arch in ${ARCHES:-x86_64 arm64}; do
		(set_arch "$arch") || exit
		[[ +$1+ == *+swtags+* && $arch != arm64 ]] || arches+=("$arch")
	done
}

# abis_of CONFIG: the ABIs of ARCH on such a kernel, its own first.
abis_of() {
	if [[ $1 == *nocompat* ]]; then
		echo "${ABIS[0]}"
	else
		printf '%s\n' "${ABIS[@]}"
	fi
}

# with_lock NAME COMMAND...: runs a command under the lock NAME, which ends with the
# process.
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

# need_space DIR MIB: checks the space for a step before it starts, because a full disk
# in the middle of a build gives an obscure error.
need_space() {
	local dir=$1 mib=$2 free
	mkdir -p "$dir" || die "cannot create $dir"
	free=$(df --output=avail -m "$dir" | tail -n 1)
	((free >= mib)) ||
		die "$dir has $free MiB free and this step needs about $mib: free some, or set XDG_CACHE_HOME"
}

# with_ccache DIR COMMAND...: runs a command with the cache of compiled objects, which are
# the same for all DIRs. By the dependencies that a compiler lists, a new file costs a fifth
# less than by running its preprocessor first.
with_ccache() {
	CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$1 CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1 \
		CCACHE_SLOPPINESS=time_macros,include_file_mtime CCACHE_MAXSIZE=4G "${@:2}"
}

# can_install: whether this user can install packages without a password.
can_install() { ((EUID == 0)) || sudo -n true 2>/dev/null; }

# start COMMAND...: runs a command in the background. It has a process group of its own,
# so that stop_all also stops its children, and may not read the terminal.
start() {
	set -m
	"$@" </dev/null &
	set +m
}

stop_all() {
	local pid
	for pid in $(jobs -p); do
		kill -- "-$pid" 2>/dev/null || true
	done
}

# step LOG LABEL COMMAND...: runs a long command with its output in a log and one line
# of progress. On failure it shows the relevant part of the log.
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

# log_digest LOG: the first errors in a log, or its end if no line is marked as an
# error.
log_digest() {
	grep -n -m 20 -A 6 -E '^Diff in|(^|[^a-z_])(error|Error|fatal|FAILED|undefined symbol|No space left)([:\[ !]|$)' "$1" |
		grep -v -E 'make(\[[0-9]+\])?: \*\*\* Waiting' | head -n 60 | grep . || tail -n 25 "$1"
}
