{{/* Where a pod may connect to. */}}
{{- define "holdfast.egress" -}}
{{- range $name := list "dns" "mysql" "kafka" "redis" "https" }}
{{- with index $.Values.networkPolicy.egress $name }}
{{- if .ports }}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- if eq $name "dns" }}
    - {protocol: UDP, port: {{ int . }}}
    {{- end }}
    {{- end }}
  {{- with .peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "holdfast.fromNamespaces" -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end -}}

{{- define "holdfast.checkNetwork" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $egress := .Values.networkPolicy.egress -}}
{{- $ports := list -}}
{{- range $egress.kafka.ports -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- range .Values.kafka.brokers -}}
{{- if not (has (regexFind "[0-9]+$" . | int) $ports) -}}
{{- fail (printf "networkPolicy.egress.kafka.ports: the port of %s is not among them" .) -}}
{{- end -}}
{{- end -}}
{{- if and (not $egress.https.ports) (or .Values.vault.address (hasKey .Values.settings "oidc_issuer")) -}}
{{- fail "networkPolicy.egress.https.ports: name the port of Vault and of the OpenID provider" -}}
{{- end -}}
{{- end -}}
{{- end -}}
