{{/* Has the Prometheus operator scrape the program, and know its alerts. */}}
{{- define "silokit.prometheus" -}}
{{- with .Values.monitoring.podMonitor -}}
{{- if .enabled -}}
{{ include "silokit.head" (dict "root" $ "apiVersion" "monitoring.coreos.com/v1" "kind" "PodMonitor" "labels" .labels) }}
spec:
  selector:
    matchLabels:
      {{- include "silokit.selector" (dict "root" $ "component" $.Chart.Name) | nindent 6 }}
  podMetricsEndpoints:
    - port: monitoring
      path: /metrics
      interval: {{ .interval }}
{{- end }}
{{- end }}
{{- with .Values.monitoring.rules }}
{{- if .enabled }}
---
{{ include "silokit.head" (dict "root" $ "apiVersion" "monitoring.coreos.com/v1" "kind" "PrometheusRule" "labels" .labels) }}
spec:
  {{- $.Subcharts.common.Files.Get "files/rules.yaml" | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* One ConfigMap per dashboard, as the sidecar of Grafana's chart looks for them. */}}
{{- define "silokit.dashboards" -}}
{{- with .Values.monitoring.dashboards -}}
{{- if .enabled }}
{{- $labels := .labels -}}
{{- range $path, $_ := $.Subcharts.common.Files.Glob "files/dashboards/*.json" }}
---
{{ include "silokit.head" (dict "root" $ "apiVersion" "v1" "kind" "ConfigMap" "suffix" (printf "dashboard-%s" (base $path | trimSuffix ".json")) "labels" $labels) }}
data:
  silokit-{{ base $path }}: |-
    {{- $.Subcharts.common.Files.Get $path | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
