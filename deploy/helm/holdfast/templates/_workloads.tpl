{{/*
The Deployments that the groups stand for, as JSON: {"items": [{name, group, roles, shards, shard, api, conf}]}.
`shard` is there where there is one Deployment for each; `shards` is empty for ingress alone.
*/}}
{{- define "holdfast.workloads" -}}
{{- $root := . -}}
{{- $all := list -}}
{{- range $shard := until (int .Values.shards) -}}{{- $all = append $all $shard -}}{{- end -}}
{{- $items := list -}}
{{- range $group := .Values.groups -}}
{{- $conf := deepCopy $root.Values.groupDefaults -}}
{{- range $key, $value := $group -}}{{- $_ := set $conf $key $value -}}{{- end -}}
{{- $_ := set $conf "settings" (merge dict $conf.settings $root.Values.settings) -}}
{{- $shards := $all -}}
{{- with $conf.onlyShards -}}
{{- $shards = list -}}
{{- range . -}}{{- $shards = append $shards (int .) -}}{{- end -}}
{{- end -}}
{{- $name := printf "%s-%s" (include "holdfast.fullname" $root) $group.name -}}
{{- $item := dict "name" $name "group" $group.name "roles" $group.roles "api" (has "ingress" $group.roles) "conf" $conf -}}
{{- if $conf.perShard -}}
{{- range $shards -}}
{{- $items = append $items (merge (dict "name" (printf "%s-%d" $name .) "shard" (toString .) "shards" (list .)) $item) -}}
{{- end -}}
{{- else -}}
{{- $onlyIngress := eq (join "," $group.roles) "ingress" -}}
{{- $items = append $items (merge (dict "shards" (ternary list $shards $onlyIngress)) $item) -}}
{{- end -}}
{{- end -}}
{{- dict "items" $items | toJson -}}
{{- end -}}

{{/* Fails with what the schema cannot see. */}}
{{- define "holdfast.check" -}}
{{- $values := .Values -}}
{{- if not $values.image.repository -}}{{- fail "image.repository: say where the image of the Dockerfile is" -}}{{- end -}}
{{- if not $values.kafka.brokers -}}{{- fail "kafka.brokers: name at least one broker" -}}{{- end -}}
{{- if and $values.mysqlShards $values.secrets.mysql_shards -}}
{{- fail "mysqlShards and secrets.mysql_shards: set one of the two" -}}
{{- else if $values.mysqlShards -}}
{{- if ne (len $values.mysqlShards) (int $values.shards) -}}
{{- fail (printf "mysqlShards: there are %d shards and %d Secrets" (int $values.shards) (len $values.mysqlShards)) -}}
{{- end -}}
{{- else if not $values.secrets.mysql_shards -}}
{{- fail "secrets.mysql_shards: name the Secret with the URLs of the shards, or one for each shard in mysqlShards" -}}
{{- end -}}
{{- range $key, $from := $values.secrets -}}
{{- if and $from.vault (not $values.vault.address) -}}
{{- fail (printf "secrets.%s is in Vault: set vault.address" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $values.vault.address (eq (not $values.vault.token) (not $values.vault.tokenFile)) -}}
{{- fail "vault: set one of token and tokenFile" -}}
{{- end -}}
{{- if and (or $values.vault.ca $values.trust.redisCa) (not (or $values.trust.configMap $values.trust.secret)) -}}
{{- fail "vault.ca and trust.redisCa are files of trust: set trust.configMap or trust.secret" -}}
{{- end -}}
{{- if and $values.trust.configMap $values.trust.secret -}}{{- fail "trust: set one of configMap and secret" -}}{{- end -}}
{{- if and $values.tls.clientCa (not $values.tls.secretName) -}}{{- fail "tls.clientCa needs tls.secretName" -}}{{- end -}}
{{- $groups := list -}}
{{- range $values.groups -}}
{{- if has .name $groups -}}{{- fail (printf "groups: two are called %s" .name) -}}{{- end -}}
{{- $groups = append $groups .name -}}
{{- end -}}
{{- $names := list -}}
{{- $run := dict -}}
{{- range (include "holdfast.workloads" . | fromJson).items -}}
{{- if has .name $names -}}{{- fail (printf "groups: two workloads are called %s" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- $item := . -}}
{{- if and .conf.perShard .api -}}
{{- fail (printf "groups: %s has the role ingress, which serves all shards: perShard must be false" .group) -}}
{{- end -}}
{{- range $shard := .shards -}}
{{- if ge (int $shard) (int $values.shards) -}}
{{- fail (printf "groups: %s has shard %d, and there are %d" $item.group (int $shard) (int $values.shards)) -}}
{{- end -}}
{{- range $role := $item.roles -}}
{{- if ne $role "ingress" -}}
{{- $what := printf "%s of shard %d" $role (int $shard) -}}
{{- with index $run $what -}}{{- fail (printf "groups: %s is run by %s and by %s" $what . $item.name) -}}{{- end -}}
{{- $_ := set $run $what $item.name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .conf.autoscaling -}}
{{- if and (ne .by "none") (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "groups: %s has minReplicas above maxReplicas" $item.group) -}}
{{- end -}}
{{- if and (eq .by "cpu") (not (dig "requests" "cpu" "" $item.conf.resources)) -}}
{{- fail (printf "groups: %s is scaled by cpu, which is a share of resources.requests.cpu: set it" $item.group) -}}
{{- end -}}
{{- if eq .by "lag" -}}
{{- if not (include "holdfast.lagging" $item.roles) -}}
{{- fail (printf "groups: %s is scaled by lag and has none of hold, credit, commit, projector" $item.group) -}}
{{- end -}}
{{- if gt (int .maxReplicas) (int $values.kafka.partitions) -}}
{{- fail (printf "groups: %s has maxReplicas %d, and no more than kafka.partitions, %d, can share a role" $item.group (int .maxReplicas) (int $values.kafka.partitions)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $shard := until (int $values.shards) -}}
{{- range $role := list "relay" "hold" "credit" "commit" "projector" "reconciler" -}}
{{- if not (hasKey $run (printf "%s of shard %d" $role $shard)) -}}
{{- fail (printf "groups: nobody runs %s of shard %d" $role $shard) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $served := false -}}
{{- range $values.groups -}}{{- if has "ingress" .roles -}}{{- $served = true -}}{{- end -}}{{- end -}}
{{- if not $served -}}{{- fail "groups: nobody runs ingress" -}}{{- end -}}
{{- end -}}

{{/* Those of some roles that have a consumer group whose lag says how much there is to do. */}}
{{- define "holdfast.lagging" -}}
{{- $lagging := list -}}
{{- range . -}}{{- if has . (list "hold" "credit" "commit" "projector") -}}{{- $lagging = append $lagging . -}}{{- end -}}{{- end -}}
{{- join "," $lagging -}}
{{- end -}}

{{/* The consumer groups of a workload, comma-separated. */}}
{{- define "holdfast.consumerGroups" -}}
{{- $root := .root -}}
{{- $groups := list -}}
{{- range $shard := .item.shards -}}
{{- range $role := splitList "," (include "holdfast.lagging" $.item.roles) -}}
{{- $groups = append $groups (printf "%sholdfast.%s.%d" $root.Values.kafka.topicPrefix $role (int $shard)) -}}
{{- end -}}
{{- end -}}
{{- join "," $groups -}}
{{- end -}}

{{- define "holdfast.workloadSelector" -}}
{{ include "holdfast.selector" .root }}
holdfast/group: {{ .item.group }}
{{- with .item.shard }}
holdfast/shard: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Whether an HPA or a ScaledObject says how many replicas there are. */}}
{{- define "holdfast.scaled" -}}
{{- if ne .conf.autoscaling.by "none" -}}true{{- end -}}
{{- end -}}
