# Installs programs that the tests need from Debian. Source this file.
#
#   debian_need PROGRAM PACKAGE   installs the package unless the program exists

debian_need() {
  local program=$1 package=$2 sudo=
  # Servers are in sbin, which may not be in PATH.
  PATH=$PATH:/usr/sbin command -v "$program" >/dev/null && return 0
  command -v apt-get >/dev/null || { echo "$program: not found: install it" >&2; return 1; }
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "$program: not found: run 'apt-get install $package' as root" >&2; return 1; }
    sudo=sudo
  fi
  echo "$program: not found, installing $package" >&2
  $sudo apt-get update -q >&2
  # While this file exists, packages start no servers, which would occupy ports.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null; $sudo chmod 755 $policy; made=yes; fi
  local result=0
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$package" >&2 || result=$?
  [ -z "$made" ] || $sudo rm -f $policy
  return $result
}
