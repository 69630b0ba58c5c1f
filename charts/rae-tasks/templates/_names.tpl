{{/* Names and labels. */}}

{{- define "rae-tasks.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end }}

{{/* Prefix of every name. Too long a one is refused where it matters (see _validate.tpl) rather than cut into something ambiguous. */}}
{{- define "rae-tasks.fullname" -}}
{{- $name := include "rae-tasks.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rae-tasks.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of an object. Takes (list root component). */}}
{{- define "rae-tasks.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "rae-tasks.selectorLabels" $root }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: rae
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod: no version, so that an upgrade of the chart alone restarts nothing. Takes (list root component). */}}
{{- define "rae-tasks.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "rae-tasks.selectorLabels" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: rae
{{- with mergeOverwrite (deepCopy $root.Values.commonLabels) $root.Values.pods.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rae-tasks.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The release's namespace and the further ones, each once, as a JSON list. */}}
{{- define "rae-tasks.namespaces" -}}
{{- prepend .Values.watchNamespaces .Release.Namespace | uniq | toJson -}}
{{- end }}
