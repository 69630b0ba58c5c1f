{{/* The demo's database and Valkey. */}}

{{/* True when an upgrade is what brings the demo: its database is then not there before the upgrade, but after it. */}}
{{- define "rae-tasks.demoIsNew" -}}
{{- if and .Values.demo.enabled .Release.IsUpgrade -}}
{{- $name := printf "%s-demo-postgres" (include "rae-tasks.fullname" .) -}}
{{- if not (lookup "apps/v1" "StatefulSet" .Release.Namespace $name) -}}true{{- end -}}
{{- end -}}
{{- end }}

{{- define "rae-tasks.migrateHook" -}}
post-install,{{ ternary "post-upgrade" "pre-upgrade" (include "rae-tasks.demoIsNew" . | eq "true") }}
{{- end }}

{{- define "rae-tasks.demoHook" -}}
post-install{{ if include "rae-tasks.demoIsNew" . }},post-upgrade{{ end }}
{{- end }}

{{- define "rae-tasks.demoPodSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.demo.uid }}
runAsGroup: {{ int .Values.demo.uid }}
fsGroup: {{ int .Values.demo.uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Volume of a demo part. Takes (list root part). */}}
{{- define "rae-tasks.demoVolume" -}}
{{- $root := index . 0 -}}
- name: data
{{- if $root.Values.demo.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ include "rae-tasks.fullname" $root }}-demo-{{ index . 1 }}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end }}

{{/* Claim of a demo part: an object of the release, so that uninstalling removes it unless `demo.keep`. Takes (list root part size). */}}
{{- define "rae-tasks.demoClaim" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.demo.persistence.enabled }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "rae-tasks.fullname" $root }}-demo-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "rae-tasks.labels" (list $root (printf "demo-%s" (index . 1))) | nindent 4 }}
  {{- if $root.Values.demo.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $root.Values.demo.persistence.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ index . 2 }}
{{- end }}
{{- end }}

{{/* Service of a demo part. Takes (list root part port). */}}
{{- define "rae-tasks.demoService" -}}
{{- $root := index . 0 -}}
{{- $component := printf "demo-%s" (index . 1) -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "rae-tasks.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "rae-tasks.labels" (list $root $component) | nindent 4 }}
spec:
  selector:
    {{- include "rae-tasks.selectorLabels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
  ports:
    - name: {{ index . 1 }}
      port: {{ index . 2 }}
      targetPort: {{ index . 1 }}
{{- end }}
