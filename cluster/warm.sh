#!/usr/bin/env bash
# Copies the weights that the image has into a cache directory: warm.sh DIRECTORY. Kubernetes runs it before the pod begins.
#
# Files that are there stay as they are. Several pods may do this at once in one directory: a file appears whole, or not.
set -eu

target=$1
source=${WARM_SOURCE:-/opt/pareidolia/cache}
[ -d "$source" ] || exit 0

cd "$source"
find . -type f -print0 | while IFS= read -r -d '' file; do
  if [ ! -e "$target/$file" ]; then
    directory=$(dirname "$target/$file")
    mkdir -p "$directory"
    temporary=$(mktemp "$directory/.warm-XXXXXX")
    cp "$file" "$temporary"
    chmod 644 "$temporary"
    mv "$temporary" "$target/$file"
  fi
done
