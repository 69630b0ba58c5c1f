{{/* The environment of tasks: where the database, Redis and the model are, and under which names. */}}

{{/* A number or truth value as the text of a variable; 1000000 must not become 1e+06. */}}
{{- define "rae-tasks.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end }}

{{/* One list of variables out of several, each name once, the last one winning. Takes a list of lists. The API server refuses or
     ignores a name that is there twice, depending on how the object is applied. */}}
{{- define "rae-tasks.mergeEnv" -}}
{{- $order := list -}}
{{- $byName := dict -}}
{{- range . -}}
{{- range . -}}
{{- if not (hasKey $byName .name) -}}{{- $order = append $order .name -}}{{- end -}}
{{- $_ := set $byName .name . -}}
{{- end -}}
{{- end -}}
{{- $merged := list -}}
{{- range $order -}}{{- $merged = append $merged (get $byName .) -}}{{- end -}}
{{- toYaml $merged -}}
{{- end }}

{{/* {NAME: value} as a list of variables. */}}
{{- define "rae-tasks.mapEnv" -}}
{{- $list := list -}}
{{- range $name, $value := . -}}
{{- $list = append $list (dict "name" $name "value" (include "rae-tasks.text" $value)) -}}
{{- end -}}
{{- toYaml $list -}}
{{- end }}

{{/* The database. Takes a dict: root, secret, user, optional (a missing Secret is then the task's own clear error, not a pod that
     waits for it). */}}
{{- define "rae-tasks.databaseEnv" -}}
{{- $db := .root.Values.database -}}
{{- if .root.Values.demo.enabled }}
{{- $name := printf "%s-demo" (include "rae-tasks.fullname" .root) }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ $name }}, key: database-url}
{{- else if $db.host }}
- name: POSTGRES_HOST
  value: {{ $db.host | quote }}
- name: POSTGRES_PORT
  value: {{ include "rae-tasks.text" $db.port | quote }}
- name: POSTGRES_DB
  value: {{ $db.name | quote }}
- name: POSTGRES_USER
  value: {{ .user | quote }}
{{- if .secret }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: {{ $db.passwordKey }}{{ if .optional }}, optional: true{{ end }}}
{{- end }}
{{- else if .secret }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: {{ $db.urlKey }}{{ if .optional }}, optional: true{{ end }}}
{{- end }}
{{- if and .secret $db.directUrlKey (not .root.Values.demo.enabled) }}
- name: RAE_DATABASE_DIRECT_URL
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: {{ $db.directUrlKey }}{{ if .optional }}, optional: true{{ end }}}
{{- end }}
{{- end }}

{{- define "rae-tasks.redisEnv" -}}
{{- if .Values.demo.enabled }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ include "rae-tasks.fullname" . }}-demo, key: redis-url}
{{- else if .Values.redis.existingSecret }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.urlKey }}}
{{- else if .Values.redis.url }}
- name: REDIS_URL
  value: {{ .Values.redis.url | quote }}
{{- end }}
{{- end }}

{{/* "true" where Qdrant is configured, else nothing. */}}
{{- define "rae-tasks.hasQdrant" -}}
{{- if or .Values.qdrant.url .Values.qdrant.host -}}true{{- end -}}
{{- end }}

{{/* The port that tasks reach it at: of the URL, or what its scheme stands for. */}}
{{- define "rae-tasks.qdrantPort" -}}
{{- if .Values.qdrant.url -}}
{{- $url := urlParse .Values.qdrant.url -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- else -}}
{{- int .Values.qdrant.port -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.qdrantEnv" -}}
{{- if include "rae-tasks.hasQdrant" . }}
{{- with .Values.qdrant }}
{{- if .url }}
- name: QDRANT_URL
  value: {{ .url | quote }}
{{- else }}
- name: QDRANT_HOST
  value: {{ .host | quote }}
- name: QDRANT_PORT
  value: {{ include "rae-tasks.text" .port | quote }}
{{- end }}
- name: QDRANT_COLLECTION_NAME
  value: {{ .collectionName | quote }}
{{- if .existingSecret }}
- name: QDRANT_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .existingSecretApiKeyKey }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rae-tasks.mlServiceName" -}}
{{- printf "%s-ml-service" (include "rae-tasks.fullname" .) -}}
{{- end }}

{{/* Where the ML service is: what the values say, else our own, where it runs. */}}
{{- define "rae-tasks.mlServiceUrl" -}}
{{- if .Values.llm.mlServiceUrl -}}
{{- .Values.llm.mlServiceUrl -}}
{{- else if .Values.mlService.enabled -}}
{{- printf "http://%s.%s.svc:%d" (include "rae-tasks.mlServiceName" .) .Release.Namespace (int .Values.mlService.port) -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.webhookEnv" -}}
{{- with .Values.webhook }}
{{- if .url }}
- name: RAE_WEBHOOK_URL
  value: {{ .url | quote }}
{{- else if .existingSecret }}
- name: RAE_WEBHOOK_URL
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .urlKey }}}
{{- end }}
{{- if .existingSecret }}
- name: RAE_WEBHOOK_SECRET
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .secretKey }}}
{{- end }}
{{- if .allowPrivate }}
- name: RAE_WEBHOOK_ALLOW_PRIVATE
  value: "true"
{{- end }}
{{- end }}
{{- end }}

{{- define "rae-tasks.llmEnv" -}}
{{- with .Values.llm }}
- name: RAE_LLM_PROVIDER
  value: {{ .provider }}
{{- if .model }}
- name: MINI_MODEL
  value: {{ .model | quote }}
{{- end }}
{{- /* 0 is a budget too: it lets nothing be spent. */}}
{{- if not (kindIs "invalid" .budget.dailyUsd) }}
- name: RAE_LLM_DAILY_BUDGET_USD
  value: {{ include "rae-tasks.text" .budget.dailyUsd | quote }}
{{- end }}
{{- if not (kindIs "invalid" .budget.monthlyUsd) }}
- name: RAE_LLM_MONTHLY_BUDGET_USD
  value: {{ include "rae-tasks.text" .budget.monthlyUsd | quote }}
{{- end }}
{{- if .requestsPerMinute }}
- name: RAE_LLM_REQUESTS_PER_MINUTE
  value: {{ include "rae-tasks.text" .requestsPerMinute | quote }}
{{- end }}
{{- if .tokensPerMinute }}
- name: RAE_LLM_TOKENS_PER_MINUTE
  value: {{ include "rae-tasks.text" .tokensPerMinute | quote }}
{{- end }}
{{- if eq .provider "openai" }}
{{- if .baseUrl }}
- name: OPENAI_BASE_URL
  value: {{ .baseUrl | quote }}
{{- end }}
{{- if .existingSecret }}
- name: OPENAI_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .apiKeyKey }}}
{{- end }}
{{- else if eq .provider "ml-service" }}
- name: ML_SERVICE_URL
  value: {{ include "rae-tasks.mlServiceUrl" $ | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* What every task is given besides the settings, as a JSON list. */}}
{{- define "rae-tasks.connectionEnv" -}}
{{- $db := include "rae-tasks.databaseEnv" (dict "root" . "secret" .Values.database.existingSecret "user" .Values.database.user) | fromYamlArray -}}
{{- $redis := include "rae-tasks.redisEnv" . | fromYamlArray -}}
{{- $qdrant := include "rae-tasks.qdrantEnv" . | fromYamlArray -}}
{{- $llm := include "rae-tasks.llmEnv" . | fromYamlArray -}}
{{- $webhook := include "rae-tasks.webhookEnv" . | fromYamlArray -}}
{{- concat $db $redis $qdrant $llm $webhook | toJson -}}
{{- end }}

{{/* What tells a pod which run it is: its Job, its CronJob, itself. Takes a dict: cronJob (may be empty), softLimit. */}}
{{- define "rae-tasks.identityEnv" -}}
{{- if .cronJob }}
- name: RAE_CRONJOB_NAME
  value: {{ .cronJob }}
{{- end }}
- name: RAE_JOB_NAME
  valueFrom:
    fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}
- name: RAE_POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: RAE_NAMESPACE
  valueFrom:
    fieldRef: {fieldPath: metadata.namespace}
- name: RAE_SOFT_LIMIT_SECONDS
  value: {{ include "rae-tasks.text" .softLimit | quote }}
# The root file system is read-only.
- name: HOME
  value: /tmp
- name: TMPDIR
  value: /tmp
{{- end }}
