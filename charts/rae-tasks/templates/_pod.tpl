{{/* Pods. */}}

{{- define "rae-tasks.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "rae-tasks.placement" -}}
{{- with .Values.pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Template of a pod that runs `rae-jobctl`. Takes a dict:
     root, component, args, env (list), resources; and, if wanted: serviceAccount, token, grace, priorityClassName, task, envFromSettings. */}}
{{- define "rae-tasks.jobPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "rae-tasks.podLabels" (list $root .component) | nindent 4 }}
    {{- with .task }}
    tasks.rae.dev/task: {{ . }}
    {{- end }}
  {{- with $root.Values.pods.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  {{- with .serviceAccount }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: {{ .token | default false }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int (.grace | default $root.Values.time.graceSeconds) }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- toYaml $root.Values.pods.securityContext | nindent 4 }}
  {{- with include "rae-tasks.placement" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: task
      image: {{ include "rae-tasks.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [rae-jobctl]
      args: {{- toYaml .args | nindent 8 }}
      env: {{- toYaml .env | nindent 8 }}
      {{- $from := $root.Values.extraEnvFrom }}
      {{- if .envFromSettings }}
      {{- $from = prepend $from (dict "configMapRef" (dict "name" (printf "%s-settings" (include "rae-tasks.fullname" $root)))) }}
      {{- end }}
      {{- with $from }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      resources: {{- toYaml .resources | nindent 8 }}
      securityContext: {{- include "rae-tasks.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 256Mi
{{- end }}
