{{/* The name of everything in a release. A pod's name is longer, and a CronJob may have no more than 52 letters. */}}
{{- define "silokit.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* What tells this release's program from everything else; takes (root, component). */}}
{{- define "silokit.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels; takes (root, component). */}}
{{- define "silokit.labels" -}}
{{ include "silokit.selector" . }}
app.kubernetes.io/part-of: silokit
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The beginning of an object; takes (root, kind, apiVersion), and perhaps suffix, component, labels, annotations. */}}
{{- define "silokit.head" -}}
apiVersion: {{ .apiVersion }}
kind: {{ .kind }}
metadata:
  name: {{ include "silokit.name" .root }}{{ with .suffix }}-{{ . }}{{ end }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "silokit.labels" (dict "root" .root "component" (.component | default .root.Chart.Name)) | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
