#!/bin/sh
# The Debian packages that the test lab is made of. Installs only what is missing.
set -eu
packages="cmake g++ openssh-server adb mksh toybox libfaketime mesa-vulkan-drivers chromium wine64 gcc-mingw-w64-x86-64-win32"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
