#!/bin/sh
# Builds the stand-ins under the names and versions that deploy/compose.yaml asks for. BUILD_FLAGS: more words for buildah.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -r "$context"' EXIT
cp "$here/../../../.venv/bin/weed" "$context/"
grep -ohE '(rabbitmq|chrislusf/seaweedfs|prom/prometheus|prom/alertmanager):[^ ]+' "$here/../../../deploy/compose.yaml" | sort -u |
while read -r image; do
  target=${image%:*} target=${target##*/}
  case $image in */*) ;; *) image=library/$image ;; esac
  # shellcheck disable=SC2086 -- BUILD_FLAGS is several words
  buildah bud --layers --format docker --pull-never --network=host ${BUILD_FLAGS:-} \
    --target "$target" -t "docker.io/$image" -f "$here/Containerfile" "$context"
done
