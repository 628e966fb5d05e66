{{/*
One pod, always the same one: a state file has one writer.

Parallel, because Kubernetes would otherwise wait for a pod that is not ready, and never replace it by the one that has
the better configuration.
*/}}
{{- define "silokit.statefulset" -}}
{{ include "silokit.head" (dict "root" . "apiVersion" "apps/v1" "kind" "StatefulSet") }}
spec:
  replicas: 1
  podManagementPolicy: Parallel
  serviceName: {{ include "silokit.name" . }}
  selector:
    matchLabels:
      {{- include "silokit.selector" (dict "root" . "component" .Chart.Name) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "silokit.selector" (dict "root" . "component" .Chart.Name) | nindent 8 }}
      annotations:
        # a new configuration starts the program anew
        silokit/config: {{ toJson .Values.config | sha256sum }}
    spec:
      {{- include "silokit.pod" (dict "root" . "args" (list "serve") "serves" true "restartPolicy" "Always" "resources" .Values.resources) | nindent 6 }}
{{- end }}

{{/* Where metrics and health are read; also of a pod that is not ready, which says why. */}}
{{- define "silokit.service" -}}
{{ include "silokit.head" (dict "root" . "apiVersion" "v1" "kind" "Service") }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "silokit.selector" (dict "root" . "component" .Chart.Name) | nindent 4 }}
  ports:
    - name: monitoring
      port: {{ .Values.config.monitoring.port }}
      targetPort: monitoring
{{- end }}

{{/* Keys, state, ledger, workspaces and results. It outlives the release: nobody can make a ledger again. */}}
{{- define "silokit.volume" -}}
{{- if not .Values.volume.existingClaim -}}
{{ include "silokit.head" (dict "root" . "apiVersion" "v1" "kind" "PersistentVolumeClaim" "annotations" (dict "helm.sh/resource-policy" "keep")) }}
spec:
  accessModes: [{{ .Values.volume.accessMode }}]
  {{- with .Values.volume.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .Values.volume.size }}
{{- end }}
{{- end }}

{{/* The beginning of what `helm test` runs; takes (root, component), the latter for its ways in the network. */}}
{{- define "silokit.test.head" -}}
{{ include "silokit.head" (dict "root" .root "apiVersion" "v1" "kind" "Pod" "suffix" "test" "component" .component "annotations" (dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation")) }}
{{- end }}

{{- define "silokit.test.resources" -}}
requests: {cpu: 100m, memory: 256Mi}
limits: {memory: 1Gi}
{{- end }}

{{/* Waits until the program says that it is ready, and repeats the reasons why it is not. */}}
{{- define "silokit.test" -}}
{{ include "silokit.test.head" (dict "root" . "component" "test") }}
spec:
  restartPolicy: Never
  {{- include "silokit.hardening" . | nindent 2 }}
  {{- with .Values.pod.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ready
      command: [python]
      workingDir: /tmp # the image's own is for its own user, who may be another here
      args:
        - -c
        - |
          {{- .Subcharts.common.Files.Get "files/ready.py" | nindent 10 }}
        - http://{{ include "silokit.name" . }}:{{ .Values.config.monitoring.port }}/readyz
      {{- include "silokit.container" . | nindent 6 }}
      resources:
        {{- include "silokit.test.resources" . | nindent 8 }}
{{- end }}
