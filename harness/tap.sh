# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by scripts that print TAP. Sourced after lib.sh.

tap_count=0 tap_failed=0

# tap_result STATUS NAME [FILE...]: a failure shows the FILEs.
tap_result() {
	local status=$1 name=$2
	shift 2
	tap_count=$((tap_count + 1))
	if ((status)); then
		echo "not ok $tap_count $name"
		(($# == 0)) || sed 's/^/# /' "$@"
		tap_failed=$((tap_failed + 1))
	else
		echo "ok $tap_count $name"
	fi
}

tap_skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count $1 # SKIP $2"
}

# passes NAME COMMAND...: the command succeeds. Its output goes to LOGS.
passes() {
	local name=$1 status=0 log
	shift
	log=$LOGS/${name//[ \/]/-}.log
	"$@" >"$log" 2>&1 || status=$?
	tap_result "$status" "$name" "$log"
}

# Prints the plan, and exits with 1 if a test has failed.
tap_end() {
	echo "1..$tap_count"
	exit $((tap_failed != 0))
}
