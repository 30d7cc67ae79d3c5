# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by scripts that run guests and read their output. Sourced after lib.sh.

# busybox: prints the path of the busybox for guests of ARCH.
busybox() {
	# shellcheck disable=SC2153 # set_arch sets it.
	local deb=$CACHE/busybox-$ARCH
	if [[ ! -x $deb ]]; then
		dpkg-deb --fsys-tarfile "$("$TOP/harness/tools/download" busybox-static "$DEB_ARCH")" |
			tar -xO --wildcards './*bin/busybox' >"$deb.new"
		chmod +x "$deb.new"
		mv "$deb.new" "$deb"
	fi
	echo "$deb"
}

# run_guest OUT ARCH CONFIG [FILE[=PATH]...] -- COMMAND...: runs a command in a guest,
# and returns its status. OUT.out gets the command's output, OUT.log the kernel's
# messages, and OUT.err the reason if the guest failed.
run_guest() {
	local out=$1 status=0
	shift
	LOG=$out.log "$TOP/harness/guest/guest" "$@" >"$out.out" 2>"$out.err" </dev/null || status=$?
	((status == 0)) || cat "$out.err" >&2
	return "$status"
}

# run_tests OUT ARCH CONFIG ABI PROGRAM... [-- [FILE=PATH...] -- COMMAND...]: runs
# programs of PROGRAMS in one guest, one after the other, or by COMMAND. OUT-PROGRAM.tap
# gets the output of each program.
run_tests() {
	local out=$1 arch=$2 config=$3 abi=$4 program programs=() status=0
	local files=("$TOP/harness/guest/tests=/guest-tests")
	shift 4
	while (($#)) && [[ $1 != -- ]]; do
		programs+=("$1")
		files+=("$PROGRAMS/$abi/$1=/tests/$1")
		shift
	done
	(($#)) || set -- -- -- /guest-tests
	shift
	run_guest "$out" "$arch" "$config" "${files[@]}" "$@" || status=$?
	for program in "${programs[@]}"; do
		part_of "$out.out" "$program" >"$out-$program.tap" || true
	done
	return "$status"
}

# run_kunit OUT ARCH CONFIG [PARAMETER...]: boots a kernel that runs its KUnit tests.
run_kunit() {
	APPEND="kunit.enable=1 kunit.autorun=1 ${*:4}" run_guest "$1" "$2" "$3" -- true
}

# check_log OUT: fails if the kernel log has complaints. OUT.report gets them.
check_log() {
	"$TOP/harness/guest/check-log" "$1.log" >"$1.report"
}

# tap_log OUT NAME: check_log as a result in TAP.
tap_log() {
	local status=0
	check_log "$1" || status=1
	tap_result "$status" "$2: nothing odd in the kernel's log" "$1.report"
}

# part_of FILE PROGRAM: the output of a program under guest-tests. Fails if there is
# none.
part_of() {
	sed -n "/^### begin $2\$/,/^### end $2 /p" "$1" | grep -v '^### '
}

# status_of FILE PROGRAM: the exit status of a program under guest-tests.
status_of() {
	sed -n "s/^### end $2 \([0-9]*\)\$/\1/p" "$1" | grep . || echo 125
}

# The kernel's futex selftests: those of the base, and robust_list2*.
futex_tests() {
	sed -n '/^TEST_GEN_PROGS/,/[^\\]$/s/^\t\([a-z_0-9]*\).*/\1/p' \
		"$SOURCE_TREE/tools/testing/selftests/futex/functional/Makefile"
}
