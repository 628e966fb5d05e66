# Finds the program that builds images here; the other scripts read this file. ENGINE=... chooses one.
if [ -z "${ENGINE:-}" ]; then
  if docker info > /dev/null 2>&1; then ENGINE=docker
  elif command -v podman > /dev/null; then ENGINE=podman
  elif command -v buildah > /dev/null; then ENGINE=buildah
  else
    echo "no docker, podman or buildah works here: install one of them (Debian: apt-get install podman)" >&2
    exit 1
  fi
fi
