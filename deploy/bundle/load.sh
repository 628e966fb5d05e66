#!/bin/sh
# Hands this bundle's images to what will run them; verify the bundle first.
#
#   sh load.sh podman
#   sh load.sh docker                       by skopeo where it is installed: not every Docker reads OCI archives
#   sh load.sh containerd                   into the namespace that Kubernetes uses, on every node
#   sh load.sh registry.example.org/path    by skopeo; `skopeo login` first
#
# More words choose images: sh load.sh podman silo-agent
set -eu
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 1; }
to=$1
shift
cd "$(dirname "$0")/images"
version=$(cat ../VERSION)
[ $# -ge 1 ] || set -- silo-agent coordinator
for program in "$@"; do
  archive=$program.oci.tar name=silokit/$program:$version
  case $to in
    podman) podman load --quiet -i "$archive" ;;
    docker)
      if command -v skopeo > /dev/null; then skopeo copy "oci-archive:$archive" "docker-daemon:docker.io/$name"
      else docker load -i "$archive"; fi
      ;;
    containerd) ctr -n k8s.io images import "$archive" ;;
    *) skopeo copy "oci-archive:$archive" "docker://$to/$name" ;;
  esac
  echo "$name is loaded."
done
