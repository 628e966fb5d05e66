#!/bin/bash
# Runs the kit for real where there is podman and no Docker, and no registry of images: by hand, as root.
#
#   tests/compose/on-podman.sh demo-compose SHORT=1      any target of the Makefile for the kit, and its settings
#
# Beforehand: tests/compose/stand-ins/build.sh, and both images of silokit as docker.io/silokit/... (podman's Docker
# API knows no other place). Grafana has no stand-in and is left out. Three things that Docker would do are done here:
# systemd's timers for health checks; Compose 5 makes containers of this podman anew at every `up`, which it is told
# not to; and a container whose network another shares cannot be replaced, so that `down` comes before a change.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
export DOCKER_HOST=unix://$work/podman.sock COMPOSE=$work/compose
printf 'services:\n  grafana: !reset null\n' > "$work/without-grafana.yaml"
cat > "$COMPOSE" << END
#!/bin/bash
words=()
for word; do words+=("\$word"); [ "\$word" = up ] && words+=(--no-recreate); done
exec $PWD/.venv/bin/docker-compose "\${words[0]}" "\${words[1]}" -f $work/without-grafana.yaml "\${words[@]:2}"
END
chmod +x "$COMPOSE"

podman system service --time 0 "$DOCKER_HOST" 2> "$work/podman.log" &
service=$!
while sleep 5; do
  for container in $(podman ps --quiet); do
    health=$(podman inspect "$container" --format '{{.State.Health.Status}}' 2> /dev/null || true)
    case $health in starting | unhealthy) podman healthcheck run "$container" || true ;; esac
  done
done > "$work/health.log" 2>&1 &
health=$!
trap 'kill $health $service 2> /dev/null || true; wait; rm -r "$work"' EXIT

time make "$@" BUILD= COMPOSE="$COMPOSE"
