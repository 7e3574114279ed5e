#!/usr/bin/env bash
# Choose the stack and the Python of an environment: tools/choose_python.sh [STACK] [PYTHON] prints "STACK PYTHON".
# Python 3.10 and 3.11 run the official stack, 3.12 runs OneDL. What is given is kept. Prints nothing if nothing fits.
set -u
stack=${1:-}
given=${2:-}

# Minor version of a Python 3 that really runs: the shims of pyenv exist for versions that are not active, and fail.
minor_of() { "$1" -c 'import sys; print(sys.version_info[1] if sys.version_info[0] == 3 else 0)' 2>/dev/null; }

fits() { # MINOR: is there a stack for it, and is it the wanted one?
  case "$1" in
    10 | 11) [ -z "$stack" ] || [ "$stack" = official ] || [ "$stack" = onedl ] ;;
    12) [ -z "$stack" ] || [ "$stack" = onedl ] ;;
    *) false ;;
  esac
}

for python in ${given:-python3 python3.11 python3.10 python3.12}; do
  minor=$(minor_of "$python") || continue
  if fits "$minor"; then
    default=official
    [ "$minor" = 12 ] && default=onedl
    echo "${stack:-$default} $python"
    exit 0
  fi
done
