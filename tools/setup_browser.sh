#!/usr/bin/env bash
# Installs the browser for the tests of the demo page and of the review sheet: Debian's or Ubuntu's chromium. Never fails;
# prints what is missing.
set -u

missing() {
  echo "setup_browser.sh: no chromium ($1): tests of HTML pages cannot run; all other tests can" >&2
  exit 0
}

for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
command -v apt-get >/dev/null || missing 'no apt-get here; install it your way'
if [ "$(id -u)" = 0 ]; then
  root=''
elif sudo -n true 2>/dev/null; then
  root='sudo -n'
else
  missing "needs root: sudo apt-get install chromium"
fi
echo 'chromium, for the tests of the demo page'
export DEBIAN_FRONTEND=noninteractive
$root apt-get -qq update >/dev/null 2>&1
log=$($root apt-get -qq install -y --no-install-recommends chromium 2>&1 >/dev/null) || missing "$(tail -n 1 <<<"$log")"
