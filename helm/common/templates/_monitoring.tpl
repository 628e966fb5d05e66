{{/* Has the Prometheus operator scrape the program. */}}
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
{{- end }}
