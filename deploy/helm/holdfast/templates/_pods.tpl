{{/* The environment that every process has; the files that it names are in holdfast.volumes. */}}
{{- define "holdfast.env" -}}
{{- $values := .Values -}}
- name: HOLDFAST_KAFKA_BROKERS
  value: {{ join "," $values.kafka.brokers | quote }}
{{- with $values.kafka.topicPrefix }}
- name: HOLDFAST_KAFKA_TOPIC_PREFIX
  value: {{ . | quote }}
{{- end }}
{{- range $index, $from := $values.mysqlShards }}
- name: MYSQL_SHARD_{{ $index }}
  valueFrom:
    secretKeyRef: {{ toJson $from }}
{{- end }}
{{- if $values.mysqlShards }}
- name: HOLDFAST_MYSQL_SHARDS
  value: {{ include "holdfast.mysqlShards" . | quote }}
{{- end }}
{{- range $key, $from := $values.secrets }}
{{- if $from.vault }}
- name: HOLDFAST_{{ upper $key }}
  value: {{ printf "vault:%s" $from.vault | quote }}
{{- else }}
- name: HOLDFAST_{{ upper $key }}_FILE
  value: /etc/holdfast/secrets/{{ $key }}
{{- end }}
{{- end }}
{{- with $values.vault.address }}
- name: VAULT_ADDR
  value: {{ . | quote }}
- name: VAULT_TOKEN_FILE
  value: {{ default "/etc/holdfast/vault/token" $values.vault.tokenFile | quote }}
{{- with $values.vault.namespace }}
- name: VAULT_NAMESPACE
  value: {{ . | quote }}
{{- end }}
{{- with $values.vault.ca }}
- name: VAULT_CACERT
  value: /etc/holdfast/trust/{{ . }}
{{- end }}
{{- end }}
{{- with $values.trust.redisCa }}
- name: HOLDFAST_REDIS_TLS_CA
  value: /etc/holdfast/trust/{{ . }}
{{- end }}
{{- end -}}

{{- define "holdfast.mysqlShards" -}}
{{- $urls := list -}}
{{- range $index, $_ := .Values.mysqlShards -}}{{- $urls = append $urls (printf "$(MYSQL_SHARD_%d)" $index) -}}{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{- define "holdfast.settings" -}}
{{- range $key, $value := . }}
- name: HOLDFAST_{{ upper $key }}
  value: {{ include "holdfast.text" $value | quote }}
{{- end }}
{{- end -}}

{{/* Secrets that are files, by the keys of their settings. */}}
{{- define "holdfast.secretSources" -}}
{{- range $key, $from := .Values.secrets }}
{{- if $from.name }}
- secret:
    name: {{ $from.name }}
    items: [{key: {{ $from.key | quote }}, path: {{ $key }}}]
{{- end }}
{{- end }}
{{- end -}}

{{- define "holdfast.volumes" -}}
{{- $values := .Values -}}
{{- with include "holdfast.secretSources" . }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- if and $values.vault.address $values.vault.token }}
- name: vault
  secret:
    secretName: {{ $values.vault.token.name }}
    defaultMode: 0440
    items: [{key: {{ $values.vault.token.key | quote }}, path: token}]
{{- end }}
{{- if $values.trust.configMap }}
- name: trust
  configMap: {name: {{ $values.trust.configMap }}}
{{- else if $values.trust.secret }}
- name: trust
  secret: {secretName: {{ $values.trust.secret }}, defaultMode: 0440}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.volumeMounts" -}}
{{- $values := .Values -}}
{{- if include "holdfast.secretSources" . }}
- {name: secrets, mountPath: /etc/holdfast/secrets, readOnly: true}
{{- end }}
{{- if and $values.vault.address $values.vault.token }}
- {name: vault, mountPath: /etc/holdfast/vault, readOnly: true}
{{- end }}
{{- if or $values.trust.configMap $values.trust.secret }}
- {name: trust, mountPath: /etc/holdfast/trust, readOnly: true}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How a probe asks for a path: by HTTP, or, where it would need a certificate, by TCP alone. */}}
{{- define "holdfast.probe" -}}
{{- if .root.Values.tls.clientCa -}}
tcpSocket: {port: http}
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ ternary "HTTPS" "HTTP" (not (empty .root.Values.tls.secretName)) }}}
{{- end -}}
{{- end -}}

{{/*
What every pod of the chart has, hooks too. Without service links: a Service called holdfast would put
variables with our prefix into the environment, and the program refuses those that it does not know.
*/}}
{{- define "holdfast.podBasics" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* A container that runs a command on the shards and the broker, and serves nothing. */}}
{{- define "holdfast.commandContainer" -}}
image: {{ include "holdfast.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: HOLDFAST_KAFKA_PARTITIONS
    value: {{ int .Values.kafka.partitions | quote }}
  {{- include "holdfast.env" . | nindent 2 }}
  {{- include "holdfast.settings" .Values.settings | trim | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  {{- include "holdfast.volumeMounts" . | trim | nindent 2 }}
{{- end -}}
