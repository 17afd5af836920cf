#!/usr/bin/env bash
# Sets up one node of a cloud cluster: Python 3.11, and the renderer with the versions that were tested.
#
#   bash node.sh WHEEL EXTRAS        such as  bash node.sh ~/pareidolia/pareidolia-0.1.0-py3-none-any.whl cuda,cluster,aws
#
# Runs on Ubuntu 22.04 or newer, as a user who may use sudo. Run again, it installs only what has changed. Ray runs it on
# every node (setup_commands of the YAML files in this directory); the wheel and constraints.txt are in its directory there.
set -euo pipefail

wheel=${1:?usage: node.sh WHEEL EXTRAS}
extras=${2:?usage: node.sh WHEEL EXTRAS}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${PAREIDOLIA_HOME:-$HOME}
environment=$home/render
profile=$home/.bashrc

# uv installs the same Python on every image, whichever Python the image has.
if [ ! -x "$home/.uv/bin/uv" ]; then
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    # Wait for the first boot, which installs packages as well.
    sudo cloud-init status --wait >/dev/null 2>&1 || true
    sudo apt-get -o DPkg::Lock::Timeout=600 -qq update
    sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y python3-venv
  fi
  python3 -m venv "$home/.uv"
  "$home/.uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
fi
[ -x "$environment/bin/python" ] || "$home/.uv/bin/uv" venv --quiet --python 3.11 "$environment"
# The wheel is always reinstalled: during development its content changes under the same version.
"$home/.uv/bin/uv" pip install --quiet --python "$environment/bin/python" --constraint "$here/constraints.txt" \
  --reinstall-package pareidolia "${wheel}[${extras}]"

# Add a line, once, to the file that every shell reads, also those that Ray starts.
tell() { grep -qxF "$1" "$profile" 2>/dev/null || printf '%s\n' "$1" >> "$profile"; }
tell "export PATH=$environment/bin:\$PATH"
tell "export RAY_AUTH_MODE=token"

# The object store is used in the node's own region, unless the environment names another.
case ,$extras, in
  *,aws,*)
    metadata=${PAREIDOLIA_METADATA:-http://169.254.169.254}/latest
    ask() { curl -fsS -m 5 "$@" 2>/dev/null; }
    if token=$(ask -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
      region=$(ask -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/placement/region"); then
      tell "export AWS_REGION=$region"
    fi
    ;;
esac

# The token was copied with the other files; only its owner may read it.
if [ -f "$home/.ray/auth_token" ]; then chmod 600 "$home/.ray/auth_token"; fi
"$environment/bin/python" -c 'import ray, render; print(f"render {render.__version__}, Ray {ray.__version__}")'
