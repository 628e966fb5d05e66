{{/*
The only ways in and out. It holds only where the cluster's network enforces policies. What the kubelet asks of a
pod's health comes from the pod's own node, which no policy shuts out.
*/}}
{{- define "silokit.network" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- range $key := list "broker" "store" }}
{{- if not (index $.Values.networkPolicy $key) }}
{{- fail (printf "networkPolicy.%s is empty: nothing could be reached. Say where it is, for example [{ipBlock: {cidr: 192.0.2.10/32}}], or set networkPolicy.enabled to false" $key) }}
{{- end }}
{{- end }}
{{- $endpoint := .Values.config.store.s3.endpoint -}}
{{- $port := regexFind ":[0-9]+/?$" $endpoint | trimAll ":/" | default (ternary "443" "80" (hasPrefix "https:" $endpoint)) -}}
{{ include "silokit.head" (dict "root" . "apiVersion" "networking.k8s.io/v1" "kind" "NetworkPolicy") }}
spec:
  podSelector:
    matchLabels:
      {{- include "silokit.selector" (dict "root" . "component" .Chart.Name) | nindent 6 }}
  # what is not named below is denied, both ways
  policyTypes: [Ingress, Egress]
  ingress:
    # `helm test` asks whether the program is ready
    - from:
        - podSelector:
            matchLabels:
              {{- include "silokit.selector" (dict "root" . "component" "test") | nindent 14 }}
      ports:
        - {port: {{ .Values.config.monitoring.port }}, protocol: TCP}
    {{- with .Values.networkPolicy.scrapers }}
    # Prometheus reads metrics
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {port: {{ $.Values.config.monitoring.port }}, protocol: TCP}
    {{- end }}
  egress:
    {{- include "silokit.network.dns" . | nindent 4 }}
    # notices: to the broker, AMQP over mutual TLS
    - to:
        {{- toYaml .Values.networkPolicy.broker | nindent 8 }}
      ports:
        - {port: {{ .Values.config.bus.rabbitmq.port | default 5671 }}, protocol: TCP}
    # sealed artifacts: to the store, HTTPS
    - to:
        {{- toYaml .Values.networkPolicy.store | nindent 8 }}
      ports:
        - {port: {{ $port }}, protocol: TCP}
    {{- with .Values.networkPolicy.extraEgress }}
    # the platform's own additions
    {{- toYaml . | nindent 4 }}
    {{- end }}
---
{{ include "silokit.head" (dict "root" . "apiVersion" "networking.k8s.io/v1" "kind" "NetworkPolicy" "suffix" "test" "component" "test") }}
spec:
  podSelector:
    matchLabels:
      {{- include "silokit.selector" (dict "root" . "component" "test") | nindent 6 }}
  # nothing comes in
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "silokit.network.dns" . | nindent 4 }}
    # is the program ready?
    - to:
        - podSelector:
            matchLabels:
              {{- include "silokit.selector" (dict "root" . "component" .Chart.Name) | nindent 14 }}
      ports:
        - {port: {{ .Values.config.monitoring.port }}, protocol: TCP}
{{- end }}
{{- end }}

{{- define "silokit.network.dns" -}}
# names: to the cluster's own resolver
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: {{ .Values.networkPolicy.dnsPort }}, protocol: UDP}
    - {port: {{ .Values.networkPolicy.dnsPort }}, protocol: TCP}
{{- end }}
