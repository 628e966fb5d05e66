#!/bin/sh
# Builds silokit/silo-agent and silokit/coordinator from this checkout. Settings, all optional, by environment:
#   ENGINE        docker, podman or buildah
#   BASE          the image to build on (Python 3.11 or 3.12 on Debian)
#   TORCH_INDEX   an index of PyTorch's builds; for CPU by default, empty takes what pip finds
#   TAG           the images' tag; the version in pyproject.toml by default
#   BUILD_FLAGS   more words for the builder, for example a proxy's certificates
set -eu
cd "$(dirname "$0")/../.."
. deploy/images/engine.sh
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
# Every file's time is that of the last change to what the libraries come from: the same sources give the same image,
# and a new version of the kit's own code keeps the large layer.
newest=$(git log -1 --format=%ct -- constraints.txt pyproject.toml deploy/images 2> /dev/null || date +%s)
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$newest}"
created=$(TZ=UTC0 git log -1 --date=iso-strict-local --format=%cd 2> /dev/null || date -u +%Y-%m-%dT%H:%M:%SZ)
case $ENGINE in
  docker) how="build" ;;
  # Only Docker's own format keeps HEALTHCHECK.
  podman | buildah) how="build --layers --format docker --timestamp $SOURCE_DATE_EPOCH" ;;
esac
for program in silo-agent coordinator; do
  # shellcheck disable=SC2086 -- BUILD_FLAGS and `how` are several words
  $ENGINE $how ${BUILD_FLAGS:-} -f deploy/images/Dockerfile --target "$program" \
    -t "silokit/$program:${TAG:-$version}" ${BASE:+--build-arg BASE="$BASE"} \
    ${TORCH_INDEX+--build-arg TORCH_INDEX="$TORCH_INDEX"} \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg CREATED="$created" \
    --build-arg SOURCE_DATE_EPOCH .
done
