# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What scripts share that read and write the diffs of the overlay.  Sourced after lib.sh.

# file_of PATH: the file of Linux that a path of the overlay is about.  A diff is called
# FILE.patch or FILE.NAME.patch and has FILE in its second line.
file_of() {
	local file=$1
	[[ $file != *.patch ]] || { read -r _ && read -r _ file _; } <"$TOP/$1" || true
	echo "${file#b/}"
}

# apply DIFF FROM TO [OPTION...]: TO becomes what FROM is with the diff.  No fuzz: a hunk
# whose context moved on has to be looked at.
apply() {
	patch -N -F0 -r - --no-backup-if-mismatch -o "$3" "${@:4}" "$2" "$TOP/$1"
}

# diff_of FILE FROM TO: the diff as the overlay has it.
diff_of() {
	diff -u --label "a/$1" --label "b/$1" "$2" "$3" || (($? == 1))
}
