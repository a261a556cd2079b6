# read.sh FILE NAMES...: sources each file and prints its variables, named in one argument, each with a NUL behind it.
set -eu
while [ $# -gt 0 ]; do
  (
    . "$1"
    for name in $2; do
      eval "printf '%s\\0' \"\$$name\""
    done
  )
  shift 2
done
