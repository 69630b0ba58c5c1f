{{/* The operator's settings file (docs/operator.md) and its rights. */}}

{{- define "rae-tasks.operatorSettings" -}}
{{- $fullname := include "rae-tasks.fullname" . -}}
{{- $requests := .Values.requests -}}
{{- $env := include "rae-tasks.mergeEnv" (list (include "rae-tasks.connectionEnv" . | fromJsonArray) .Values.extraEnv) | fromYamlArray -}}
{{- $settings := dict "configMapRef" (dict "name" (printf "%s-settings" $fullname)) -}}
namespaces: {{ include "rae-tasks.namespaces" . }}
workers: {{ int .Values.operator.workers }}
resyncSeconds: {{ int .Values.operator.resyncSeconds }}
maxActiveJobs: {{ int $requests.maxActiveJobs }}
preRunningDeadlineSeconds: {{ int $requests.preRunningDeadlineSeconds }}
ttlSecondsAfterFinished: {{ int $requests.ttlSecondsAfterFinished }}
jobTtlSeconds: {{ int $requests.jobTtlSeconds }}
lease:
  name: {{ $fullname }}-operator
http:
  port: {{ int .Values.operator.port }}
task:
  image: {{ include "rae-tasks.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  imagePullSecrets: {{ toJson .Values.imagePullSecrets }}
  serviceAccountName: {{ $fullname }}-task
  env: {{- toYaml $env | nindent 4 }}
  envFrom: {{- toYaml (prepend .Values.extraEnvFrom $settings) | nindent 4 }}
  resources: {{- toYaml $requests.resources | nindent 4 }}
  nodeSelector: {{ toJson .Values.pods.nodeSelector }}
  tolerations: {{ toJson .Values.pods.tolerations }}
  affinity: {{ toJson .Values.pods.affinity }}
  {{- with $requests.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  podLabels: {{- include "rae-tasks.podLabels" (list . "task") | nindent 4 }}
  podAnnotations: {{ toJson .Values.pods.annotations }}
  podSecurityContext: {{- toYaml .Values.pods.securityContext | nindent 4 }}
  softLimitSeconds: {{ int .Values.time.softLimitSeconds }}
  terminationGracePeriodSeconds: {{ int .Values.time.graceSeconds }}
kinds: {{- toYaml $requests.kinds | nindent 2 }}
{{- end }}

{{/* Rights in a namespace whose requests are served. */}}
{{- define "rae-tasks.operatorRules" -}}
- apiGroups: [tasks.rae.dev]
  resources: [graphextractionrequests, reflectionrequests]
  verbs: [get, list, watch, delete]
- apiGroups: [tasks.rae.dev]
  resources: [graphextractionrequests/status, reflectionrequests/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
