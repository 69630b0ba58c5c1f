{{/* What a schema cannot say. Each failure names the value and the way out. */}}

{{- define "rae-tasks.validate" -}}
{{- include "rae-tasks.validateNames" . -}}
{{- include "rae-tasks.validateConnections" . -}}
{{- include "rae-tasks.validateTimes" . -}}
{{- include "rae-tasks.validateMaintenance" . -}}
{{- include "rae-tasks.validateSettings" (list "settings" .Values.settings) -}}
{{- range $name, $task := .Values.tasks -}}
{{- include "rae-tasks.validateSettings" (list (printf "tasks.%s.env" $name) ($task.env | default dict)) -}}
{{- end -}}
{{- end }}

{{/* Values end up in a ConfigMap and in Helm's own record of the release. */}}
{{- define "rae-tasks.validateSettings" -}}
{{- $place := index . 0 -}}
{{- range $name, $value := index . 1 -}}
{{- if regexMatch "(PASSWORD|API_KEY|SECRET|TOKEN|DATABASE_URL|DIRECT_URL)$" $name -}}
{{- fail (printf "%s.%s looks like a secret, which does not belong into values; name its Secret in database, redis or llm, or give it by extraEnv with valueFrom.secretKeyRef" $place $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.validateNames" -}}
{{- $fullname := include "rae-tasks.fullname" . -}}
{{- range $name := include "rae-tasks.enabledTasks" . | fromJsonArray -}}
{{- $cronJob := printf "%s-%s" $fullname $name -}}
{{- if gt (len $cronJob) 52 -}}
{{- fail (printf "tasks.%s: the CronJob's name %q has %d characters, and Kubernetes allows 52; choose a shorter release name or fullnameOverride (at most %d characters)" $name $cronJob (len $cronJob) (sub 51 (len $name))) -}}
{{- end -}}
{{- end -}}
{{- if gt (len $fullname) 48 -}}
{{- fail (printf "the names would start with %q, which has %d characters; choose a shorter release name or fullnameOverride (at most 48)" $fullname (len $fullname)) -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.validateConnections" -}}
{{- if and (eq .Values.llm.provider "ml-service") (not (include "rae-tasks.mlServiceUrl" .)) -}}
{{- fail "llm.provider is ml-service, so llm.mlServiceUrl must say where it is, e.g. http://rae-ml-service:8001, or mlService.enabled=true start one" -}}
{{- end -}}
{{- if and (eq .Values.llm.provider "openai") (not .Values.llm.existingSecret) (not .Values.llm.baseUrl) -}}
{{- fail "llm.provider is openai, so llm.existingSecret must name the Secret with the API key, or llm.baseUrl an endpoint that wants none" -}}
{{- end -}}
{{- if and .Values.qdrant.existingSecret (not (include "rae-tasks.hasQdrant" .)) -}}
{{- fail "qdrant.existingSecret is set, so qdrant.url or qdrant.host must say where Qdrant is, e.g. http://rae-qdrant:6333" -}}
{{- end -}}
{{- if and .Values.erasure.enabled (not .Values.erasure.existingSecret) -}}
{{- fail "erasure.enabled is true, so erasure.existingSecret must name the Secret with the key of the hash, e.g. kubectl create secret generic rae-erasure --from-literal=erasure-key=$(openssl rand -hex 32)" -}}
{{- end -}}
{{- if and .Values.webhook.url (not .Values.webhook.existingSecret) -}}
{{- fail "webhook.url is set, so webhook.existingSecret must name the Secret with the signing secret (key webhook-secret: whsec_ and at least 24 bytes in base64)" -}}
{{- end -}}
{{- include "rae-tasks.checkSecret" . -}}
{{- end }}

{{/* Only where the cluster can be asked: `helm template` and a namespace that is yet to be made find nothing and prove nothing. */}}
{{- define "rae-tasks.checkSecret" -}}
{{- $db := .Values.database -}}
{{- $key := ternary $db.passwordKey $db.urlKey (ne $db.host "") -}}
{{- if and $db.checkSecret $db.existingSecret (not .Values.demo.enabled) -}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace $db.existingSecret -}}
{{- $way := printf "kubectl -n %s create secret generic %s --from-literal=%s=..." .Release.Namespace $db.existingSecret $key -}}
{{- if not $secret -}}
{{- fail (printf "database.existingSecret: there is no Secret %q in namespace %q. Make it (%s), start a database for a trial (--set demo.enabled=true), or leave it for later (--set database.checkSecret=false)" $db.existingSecret .Release.Namespace $way) -}}
{{- else if not (hasKey ($secret.data | default dict) $key) -}}
{{- fail (printf "Secret %q in namespace %q has no key %q (it has: %s); database.%s names the key" $db.existingSecret .Release.Namespace $key (keys ($secret.data | default dict) | sortAlpha | join ", ") (ternary "passwordKey" "urlKey" (ne $db.host ""))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* run-maintenance runs the daily tasks itself; beside their own CronJobs each would have two slots a day. */}}
{{- define "rae-tasks.validateMaintenance" -}}
{{- $enabled := include "rae-tasks.enabledTasks" . | fromJsonArray -}}
{{- if has "run-maintenance" $enabled -}}
{{- range $part := list "check-consistency" "cleanup-expired-data" "decay" "decay-importance" -}}
{{- if has $part $enabled -}}
{{- fail (printf "tasks.run-maintenance and tasks.%s are both on, and the first runs the second; set tasks.%s to null, or tasks.run-maintenance.enabled to false" $part $part) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.validateTimes" -}}
{{- range $name := include "rae-tasks.enabledTasks" . | fromJsonArray -}}
{{- $task := include "rae-tasks.task" (list $ $name) | fromJson -}}
{{- $pod := add (int $task.softLimitSeconds) (int $task.graceSeconds) -}}
{{- if lt (int $task.activeDeadlineSeconds) (int $pod) -}}
{{- fail (printf "tasks.%s: activeDeadlineSeconds is %d, less than one attempt may take (softLimitSeconds + graceSeconds = %d); leave it null and it is computed" $name (int $task.activeDeadlineSeconds) (int $pod)) -}}
{{- end -}}
{{- end -}}
{{- end }}
