{{/* What every container of the kit may do: nothing but compute, as somebody who is not root. */}}
{{- define "silokit.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* What every pod of the kit is: Pod Security "restricted", and without a word to the cluster's own API. */}}
{{- define "silokit.hardening" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .Values.securityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* Where the program finds its files. */}}
{{- define "silokit.mounts" -}}
- name: config
  mountPath: /etc/silokit
  readOnly: true
- name: state
  mountPath: /var/lib/silokit
- name: scratch
  mountPath: /tmp
{{- if gt (int (.Values.config.processes | default 1)) 1 }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
{{- if .Values.certificates.existingSecret }}
- name: certificates
  mountPath: /certificates
  readOnly: true
{{- end }}
{{- if .Values.table }}
- name: table
  mountPath: /data
  readOnly: true
{{- end }}
{{- end }}

{{/* Environment variables, where there are any. */}}
{{- define "silokit.env" -}}
{{- with .Values.env }}
env:
  {{- range $name, $value := . }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
The pod that is the party. Takes root; args (of the program); restartPolicy; resources; and whether it serves, which
gives it probes and readies its volume first.

Every Secret is optional to Kubernetes: a program that starts and says what it misses is clearer than a pod that hangs.
*/}}
{{- define "silokit.pod" -}}
{{- $root := .root -}}
restartPolicy: {{ .restartPolicy }}
{{ include "silokit.hardening" $root }}
{{- with $root.Values.pod }}
{{ toYaml . }}
{{- end }}
{{- if .serves }}
initContainers:
  {{- if $root.Values.identity.existingSecret }}
  # an identity that was made elsewhere is unpacked once: a volume that holds a party is left alone
  - name: restore
    args: [restore, /identity/backup, --if-empty]
    {{- include "silokit.container" $root | nindent 4 }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    volumeMounts:
      {{- include "silokit.mounts" $root | nindent 6 }}
      - name: identity
        mountPath: /identity
        readOnly: true
  {{- end }}
  # tells everything that stands in the way, and stops at what waiting does not heal: a wrong configuration
  - name: check
    args: [check, --start]
    {{- include "silokit.container" $root | nindent 4 }}
    {{- with include "silokit.env" $root }}
    {{- . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    volumeMounts:
      {{- include "silokit.mounts" $root | nindent 6 }}
{{- end }}
containers:
  - name: {{ $root.Chart.Name }}
    args: {{ toJson .args }}
    {{- include "silokit.container" $root | nindent 4 }}
    {{- with include "silokit.env" $root }}
    {{- . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    {{- if .serves }}
    ports:
      - name: monitoring
        containerPort: {{ $root.Values.config.monitoring.port }}
    # Alive is a process that answers; ready is one that broker, store and federation know. A party whose broker is
    # away is alive: to restart it would only interrupt its training.
    startupProbe:
      httpGet: {path: /healthz, port: monitoring}
      periodSeconds: 1
      timeoutSeconds: 5
      failureThreshold: 120
    livenessProbe:
      httpGet: {path: /healthz, port: monitoring}
      periodSeconds: 10
      timeoutSeconds: 10
      failureThreshold: 6
    readinessProbe:
      httpGet: {path: /readyz, port: monitoring}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 2
    {{- end }}
    volumeMounts:
      {{- include "silokit.mounts" $root | nindent 6 }}
volumes:
  - name: config
    configMap:
      name: {{ include "silokit.name" $root }}
  - name: state
    persistentVolumeClaim:
      claimName: {{ $root.Values.volume.existingClaim | default (include "silokit.name" $root) }}
  - name: scratch
    emptyDir:
      sizeLimit: {{ $root.Values.volume.scratch }}
  {{- if gt (int ($root.Values.config.processes | default 1)) 1 }}
  # processes that share a training pass gradients through it, and need more than the 64 MiB of a container
  - name: shared-memory
    emptyDir:
      medium: Memory
      sizeLimit: 1Gi
  {{- end }}
  {{- with $root.Values.certificates.existingSecret }}
  - name: certificates
    secret:
      secretName: {{ . }}
      optional: true
      defaultMode: 0440
  {{- end }}
  {{- with $root.Values.table }}
  - name: table
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .serves }}
  {{- with $root.Values.identity.existingSecret }}
  - name: identity
    secret:
      secretName: {{ . }}
      optional: true
      defaultMode: 0440
  {{- end }}
  {{- end }}
{{- end }}
