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

# need_variant VARIANT [FLAVOUR]; a mutant or a prefix must be one of $base
need_variant()
{
	case ${1:-} in
	stock | patched) ;;
	mutant-*)
		[ -f "$mutants/${1#mutant-}/$base.diff" ] ||
			die 2 "there is no mutant '${1#mutant-}' for $base: tools/lab/mutants/${1#mutant-}/$base.diff" ;;
	prefix-*)
		patches_of "$base" | grep -xF "${1#prefix-}" >/dev/null ||
			die 2 "patches/series has no patch '${1#prefix-}' for $base" ;;
	*) die 2 "there is no variant '${1:-}'; VARIANT= stock, patched, mutant-NAME or prefix-PATCH" ;;
	esac
	case ${2:-} in
	'' | bench | kasan | kcsan | lockdep | s390x) ;;
	*) die 2 "there is no flavour '$2'; FLAVOUR= bench, kasan, kcsan, lockdep, s390x or nothing" ;;
	esac
}

# What kbuild compiles for, and with which tools; a script that sets them exports
# them to those that it calls
karch=${LAB_ARCH:-x86_64} cross=${LAB_CROSS:-} clang=${LAB_CLANG:-}

# machine FLAVOUR: the same by flavour; and which lists of selftests hold, the suffix
# of what is built for another machine than this one, and the group of tools/deps
machine()
{
	lists=$lab suffix='' foreign=''
	[ "${1:-}" = s390x ] || return 0
	karch=s390 cross=s390x-linux-gnu-
	lists=$lab/s390x suffix=-s390x foreign=s390x
	export LAB_ARCH=$karch LAB_CROSS=$cross
}
machine ''

# selftests BASE VARIANT: the lines of the list selftests that run there, without
# BASES; all of exit: as one line, "exit". What goes on for a time, -t, does so on
# patched: on stock it would go on to break what it has broken.
selftests()
{
	of_base "$1" "${lists:-$lab}/selftests" | awk -v variant="$2" '
		/^exit:/ { if (!seen++) print "exit"; next }
		variant == "stock" { sub(/ -t [0-9]+/, " -t 1") }
		variant != "stock" || $1 !~ /(^|,)page_pin=/'
}

# once_more RESULTS BASE VARIANT CASE PROGRAM [args]: that case alone, at most three
# times or until it is not ok, which is then what RESULTS (KTAP's, as a table) say: a
# race, say, may be missed.
once_more()
{
	local results=$1 base=$2 variant=$3 case=$4 n
	shift 4
	for n in 1 2 3; do
		phase "run: $1 on $variant, $n more: $case"
		"$lab/selftest" "$base" "$variant" "$@" -k "\"$case\"" \
			>"$results.again" 2>/dev/null </dev/null || true
		grep -qF "not ok"$'\t'"$case"$'\t' "$results.again" || continue
		awk -F'\t' -v OFS='\t' -v c="$case" '$2 == c { $1 = "not ok" } 1' \
			"$results" >"$results.again"
		mv "$results.again" "$results"
		break
	done
	rm -f "$results.again"
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

# patches_of BASE: the names of the series' patches there, in order
patches_of() { of_base "$1" <(awk '{ print $2, $1 }' "$top/patches/series"); }

newest_base() { (cd "$top/bases" && printf '%s\n' *) | sort -V | tail -1; }

# selftests_folder: where the base that need_base knows has the selftests of mm/
selftests_folder()
{
	local dir=tools/testing/selftests/vm p
	for p in ${PATHS:-}; do
		[ "${p%%=*}" != "$dir" ] || dir=${p#*=}
	done
	echo "$dir"
}

# objects: of the files named on stdin, the objects that kbuild makes of them
objects() { sed -n 's/\.c$/.o/p' | grep -E '^(mm|fs|kernel|lib|block|io_uring|drivers)/'; }

# warnings LOG: what a build said, as one looks for it in another tree's: each once,
# without line numbers
warnings()
{
	sed -nE '/(warning|error):/ { s/:[0-9]+(:[0-9]+)?:/:/g; s/^(\.\.\/)+//; p }' "$1" | sort -u
}

# clean_tree TREE: one that variants share, as series/tree left it
clean_tree()
{
	[ ! -e "$1" ] || { git -C "$1" checkout -qf series && git -C "$1" clean -qfd; }
}

# both_trees BASE: make out/BASE/{stock,patched}/tree, for who compares them
both_trees()
{
	local variant
	for variant in stock patched; do
		"$top/tools/series/tree" "$1" "$variant" "$top/out/$1/$variant/tree" >&2
	done
}

# compile LOG TREE BUILD WORD...: of kbuild, with W=1, all words that are objects, and
# the words that are not; $made is how many there are then. 1 if one does not compile;
# but one that this configuration does not build has no rule, and is none.
compile()
{
	local log=$1 tree=$2 build=$3 o goals=() code=0
	shift 3
	for o; do
		[[ $o != *.o ]] || goals+=("$o")
	done
	(cd "$tree/$build" && rm -f "${goals[@]}")
	kbuild "$tree" "$build" -k W=1 "$@" >"$log" 2>&1 || true
	made=0
	for o in "${goals[@]}"; do
		if [ -f "$tree/$build/$o" ]; then
			made=$((made + 1))
		elif ! grep -q "No rule to make target '$o'" "$log"; then
			code=1
		fi
	done
	# A folder has no file that would tell.
	if [[ " $* " = */\ * ]] && grep -qE '\*\*\* \[.*\] Error' "$log"; then
		code=1
	fi
	return $code
}

# build_lock: from here on this script's is the only build of those that use this
# cache. The lock is descriptor 9, for what outlives the build to close.
build_lock()
{
	mkdir -p "$cache"
	exec 9>"$cache/build.lock"
	if ! flock -n 9; then
		phase "waiting for another build to end"
		flock 9
	fi
}

# compile_selftests TREE FOLDER WORD...: those words that are programs of the
# tree's selftests, static, for the machine that machine() said. need_base came
# before: PATHS is the base's.
compile_selftests()
{
	local tree=$1 to=$2 dir word headers programs=()
	shift 2
	dir=$(selftests_folder)
	mkdir -p "$to" "$tree/build$suffix"
	for word; do
		[ -f "$tree/$dir/$word.c" ] || continue
		programs+=("$to/$word")
		# 5.10's Makefile knows of no header.
		[ -z "$(find "$tree/$dir" -maxdepth 1 -name '*.h' -newer "$to/$word" 2>/dev/null)" ] ||
			rm "$to/$word"
	done
	headers="-isystem $tree/build$suffix/usr/include"
	{
		kbuild "$tree" "build$suffix" headers &&
			{ [ ${#programs[@]} = 0 ] ||
				kbuild "$tree/$dir" "build$suffix" -j1 MAKELEVEL=0 OUTPUT="$to" CC="${cross}gcc" \
					KHDR_INCLUDES="$headers" USERCFLAGS="$headers" \
					USERLDFLAGS=-static "${programs[@]}"; }
	} >"$to/build.log" 2>&1 || {
		tail -20 "$to/build.log" >&2
		die 5 "the selftests of $tree do not build; all that they said is in $to/build.log"
	}
}

# kbuild TREE BUILD ARG...: the kernel's make, without what our own hands down
kbuild()
{
	local tree=$1 build=$2 cc=${cross}gcc tools=() t
	shift 2
	[ -z "$cross" ] || tools=(CROSS_COMPILE="$cross")
	if [ -n "$clang" ]; then
		# 5.10 knows LLVM=1, but not LLVM=-19.
		cc=clang-$clang tools=(LLVM=1 LD="ld.lld-$clang")
		for t in ar nm objcopy objdump readelf strip; do
			tools+=("${t^^}=llvm-$t-$clang")
		done
	fi
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u BASE \
		-u KCONFIG -u KDIR LC_ALL=C \
		CCACHE_DIR="$cache/ccache" CCACHE_MAXSIZE=4G CCACHE_NOHASHDIR=1 \
		KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' \
		make -C "$tree" O="$build" ARCH="$karch" LOCALVERSION= "${tools[@]}" \
		CC="ccache $cc" HOSTCC="ccache gcc" -j"${JOBS:-$(nproc)}" "$@" </dev/null
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
