#!/usr/bin/env bash
# Installs the Debian packages that a make target needs and that are missing: scripts/install.sh demo|cluster|test|race
# Needs root or sudo only when something is missing. The demo goes on without Tomcat or a browser; tests do not.
set -eu -o pipefail

what=${1:?"usage: scripts/install.sh demo|cluster|test|race"}
case $what in
  demo) want=(tomcat10 default-jre-headless) ;;
  cluster) want=(postgresql) ;;
  test) want=(iproute2 postgresql tomcat10 default-jre-headless chromium libnss3-tools squid dante-server haproxy) ;;
  race) want=(gcc libc6-dev) ;;
  *) echo "install.sh: unknown target $what" >&2; exit 2 ;;
esac

missing=()
for package in "${want[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install.sh: ${missing[*]} missing, and neither root nor sudo to install them: apt-get install ${missing[*]}" >&2
    [[ $what == demo ]] && exit 0
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
# tomcat10 ships a service that would start on 8080: the policy file keeps it stopped, we run an instance of our own.
policy=/usr/sbin/policy-rc.d
made_policy=
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  made_policy=yes
fi
trap '[[ -z $made_policy ]] || "${as_root[@]}" rm -f "$policy"' EXIT
log=$(mktemp)
# Tests make PostgreSQL servers of their own (pkg/store/pgtest): where the package comes for their sake, it makes none.
without_cluster() {
  [[ " ${missing[*]} " == *" postgresql "* ]] || return 0
  "${as_root[@]}" apt-get install -y --no-install-recommends postgresql-common &&
    "${as_root[@]}" sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
}
if ! { "${as_root[@]}" apt-get update && without_cluster &&
  "${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "install.sh: could not install ${missing[*]}" >&2
  [[ $what == demo ]] && exit 0
  exit 1
fi
rm -f "$log"
