# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by scripts that read and write the diffs of the overlay. Sourced after lib.sh.

# file_of PATH: the file of Linux that a path of the overlay makes or changes. A diff is
# called FILE.patch or FILE.NAME.patch, and names FILE in its second line.
file_of() {
	local file=$1
	[[ $file != *.patch ]] || { read -r _ && read -r _ file _; } <"$TOP/$1" || true
	echo "${file#b/}"
}

# apply DIFF FROM TO [OPTION...]: writes FROM with the diff to TO. No fuzz, because a
# hunk whose context has changed needs a review.
apply() {
	patch -N -F0 -r - --no-backup-if-mismatch -o "$3" "${@:4}" "$2" "$TOP/$1"
}

# diff_of FILE FROM TO: prints the diff in the format of the overlay.
diff_of() {
	diff -u --label "a/$1" --label "b/$1" "$2" "$3" || (($? == 1))
}
