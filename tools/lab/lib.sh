# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# What the lab's scripts share; sourced, never run.
set -eu -o pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=$top/tools/lab
mutants=${MUTANTS:-$lab/mutants}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/exact-cow
me=$(basename "$0")

# die CODE SENTENCE...
die()
{
	local code=$1
	shift
	printf '%s: %s\n' "$me" "$*" >&2
	exit "$code"
}

# phase TEXT: progress, with the seconds since the outermost script began
export LAB_START=${LAB_START:-$EPOCHSECONDS}
phase()
{
	printf '[%s %3d s] %s\n' "$me" $((EPOCHSECONDS - LAB_START)) "$*" >&2
}

# need_base BASE: the base is one that bases/ names; its keys become variables
need_base()
{
	local known
	known=$(cd "$top/bases" && printf '%s ' *)
	[ -f "$top/bases/${1:-none}" ] ||
		die 2 "there is no base '${1:-}'; BASE= one of: $known"
	# shellcheck source=/dev/null
	. "$top/bases/$1"
}

# need_variant VARIANT [FLAVOUR]; a mutant's must be one of $base
need_variant()
{
	case ${1:-} in
	stock | patched) ;;
	mutant-*)
		[ -f "$mutants/${1#mutant-}/$base.diff" ] ||
			die 2 "there is no mutant '${1#mutant-}' for $base: tools/lab/mutants/${1#mutant-}/$base.diff" ;;
	*) die 2 "there is no variant '${1:-}'; VARIANT= stock, patched or mutant-NAME" ;;
	esac
	case ${2:-} in
	'' | bench | kasan | kcsan | lockdep) ;;
	*) die 2 "there is no flavour '$2'; FLAVOUR= bench, kasan, kcsan, lockdep or nothing" ;;
	esac
}

# selftests BASE VARIANT: the lines of tools/lab/selftests that run there, without
# BASES; all of exit: as one line, "exit"
selftests()
{
	of_base "$1" "$lab/selftests" | awk -v variant="$2" '
		/^exit:/ { if (!seen++) print "exit"; next }
		variant != "stock" || $1 !~ /(^|,)page_pin=/'
}

# of_base BASE FILE: the lines of a list that begin with "all" or name the base
# in their first field, without that field
of_base()
{
	awk -v base="$1" '/^[ \t]*(#|$)/ { next }
		$1 == "all" || index("," $1 ",", "," base ",") {
			sub(/^[^ \t]+[ \t]+/, "")
			print
		}' "$2"
}

# kbuild TREE BUILD ARG...: the kernel's make, without what our own hands down
kbuild()
{
	local tree=$1 build=$2
	shift 2
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u BASE \
		-u KCONFIG -u KDIR LC_ALL=C \
		CCACHE_DIR="$cache/ccache" CCACHE_MAXSIZE=4G CCACHE_NOHASHDIR=1 \
		KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' \
		make -C "$tree" O="$build" ARCH=x86_64 LOCALVERSION= \
		CC="ccache gcc" HOSTCC="ccache gcc" -j"$(nproc)" "$@" </dev/null
}

# The line that ends what RUN printed, written by init.c
end_marker='# lab: RUN ended with status '

# splats CONSOLE: the lines by which a kernel says that it is broken
splats()
{
	grep -a -n -E \
		-e '\bBUG[: ]|\bWARNING:|\bOops\b|\b(KASAN|KCSAN|UBSAN):' \
		-e 'Kernel panic|general protection fault|double fault' \
		-e 'INFO: task .* for more than|detected stall' \
		-e 'inconsistent lock state|pagealloc: |unable to handle' \
		"$1"
}
