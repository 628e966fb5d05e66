#!/bin/sh
# Makes a stand-in for the images' base where no registry can be reached, and gives it the base's name: Debian 12 with
# its own Python 3.11. It differs from the real one in where Python lies, which the Dockerfile does not ask.
# Needs root, debootstrap and a mirror of Debian; the result is kept in .cache/images/base.tar.
set -eu
cd "$(dirname "$0")/../.."
. deploy/images/engine.sh
kept=.cache/images/base.tar
if [ ! -s "$kept" ]; then
  mkdir -p "${kept%/*}"
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" > "${kept%/*}/base.log"
  # As the real one: no caches, no manuals.
  rm -rf "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/doc/* \
    "$root"/usr/share/man/* "$root"/usr/share/locale/*
  tar -C "$root" --numeric-owner -cf "$kept.new" . && mv "$kept.new" "$kept"
fi
name=docker.io/library/python:3.11-slim-bookworm
case $ENGINE in
  buildah)
    container=$(buildah from scratch)
    buildah add -q "$container" "$kept" / && buildah commit -q --rm "$container" "$name"
    ;;
  *) "$ENGINE" import "$kept" "$name" ;;
esac
