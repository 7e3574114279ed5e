#!/usr/bin/env bash
# Creates the virtual environment of a stack: [EXTRAS=test] [NEEDED_GB=9] tools/setup_env.sh STACK VENV [PYTHON]
# NEEDED_GB is the free disk that a new environment asks for; a torch without CUDA needs about half of the default.
# EXTRAS are those of setup.py, of which "test" contains all. With "test" it also installs the browser of the tests.
# Safe to run again: pip keeps installed packages of the right version, and completes a partial environment.
set -euo pipefail

stack=${1:?usage: setup_env.sh official|onedl VENV [PYTHON]}
venv=${2:?usage: setup_env.sh official|onedl VENV [PYTHON]}
python=${3:-python3}
extras=${EXTRAS:-test}
cd "$(dirname "$0")/.."

case "$stack" in
  official) mm=""; mmcv=mmcv; mmdet=mmdet; newest=11; needed=9 ;;
  onedl) mm="onedl-"; mmcv=onedl-mmcv; mmdet=onedl-mmdetection; newest=12; needed=12 ;;
  *) echo "setup_env.sh: unknown STACK '$stack': use official or onedl" >&2; exit 2 ;;
esac
constraints=$PWD/tools/constraints/$stack.txt
if ! "$python" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))"; then
  echo "setup_env.sh: the $stack stack needs Python 3.10 to 3.$newest, and '$python' is $("$python" -V 2>&1)." \
       "Name another Python: make PYTHON=python3.11" >&2
  exit 2
fi

needed=${NEEDED_GB:-$needed}
if [ ! -x "$venv/bin/python" ]; then
  folder=$venv
  until [ -d "$folder" ]; do folder=$(dirname "$folder"); done
  free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024 ^ 2) }')
  if [ "$free" -lt "$needed" ]; then
    echo "setup_env.sh: the $stack stack needs $needed GB of disk while it is installed, most of it for torch's CUDA" \
         "libraries; the disk of '$venv' has $free GB free. Free some, name a folder of another disk (make" \
         "VENV=/path/of/environment), or set NEEDED_GB lower for a torch without CUDA" >&2
    exit 2
  fi
  "$python" -m venv "$venv"
fi
py=$venv/bin/python
install() { PIP_DISABLE_PIP_VERSION_CHECK=1 "$py" -m pip install --quiet -c "$constraints" "$@"; }
pinned() { sed -n "s/^$1==//p" "$constraints"; }

echo "[1/4] torch $(pinned torch) into $venv"
install setuptools wheel ninja
install torch torchvision numpy opencv-python "${mm}mmengine"

echo "[2/4] $mmcv $(pinned $mmcv) with compiled ops"
has_ops() { "$py" -c "import mmcv.ops" >/dev/null 2>&1; }
if ! has_ops; then
  # OpenMMLab publishes wheels for each torch and CUDA; without one, or without network, the source is built.
  wheels=$("$py" - <<'PY'
import torch
cuda = 'cu' + torch.version.cuda.replace('.', '') if torch.version.cuda else 'cpu'
torch_series = 'torch' + '.'.join(torch.__version__.split('.')[:2])
print(f'https://download.openmmlab.com/mmcv/dist/{cuda}/{torch_series}/index.html')
PY
)
  if [ "$stack" = official ] && install --retries 0 --timeout 10 --only-binary mmcv --find-links "$wheels" mmcv \
      2>/dev/null && has_ops; then
    echo "      prebuilt wheel"
  else
    echo "      no prebuilt wheel within reach: building from source, about 7 minutes on 2 cores" \
         "(seconds if pip's cache has the wheel)"
    export MMCV_WITH_OPS=1 FORCE_CUDA=${FORCE_CUDA:-0} MAX_JOBS=${MAX_JOBS:-$(nproc)}
    install --no-build-isolation "$mmcv"
    # A wheel in the cache from an isolated build has no ops.
    has_ops || install --no-build-isolation --no-cache-dir --no-deps --force-reinstall "$mmcv"
    has_ops || { echo "setup_env.sh: $mmcv was installed without compiled ops; see its error:" >&2
                 "$py" -c "import mmcv.ops"; }
  fi
fi

echo "[3/4] mmsegmentation, mmdet, open_clip, tools"
# The setup files of OneDL's source releases need torch: no build isolation.
install --no-build-isolation "${mm}mmsegmentation" "$mmdet" open_clip_torch scipy
echo "[4/4] mmzeg, in place"
install --no-build-isolation -e ".[$extras]"
[ "$extras" != test ] || bash tools/setup_browser.sh
"$py" -c "import mmcv.ops, mmzeg.models; print('mmzeg', mmzeg.__version__, 'is ready in $venv')"
