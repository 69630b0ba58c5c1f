{{/* A task of `tasks`, filled up with `taskDefaults`; and the time that a Job may take. */}}

{{/* Takes (list root name); gives the task as JSON. A value that is false or 0 must win over a default, which `merge` would not do. */}}
{{- define "rae-tasks.task" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $task := deepCopy $root.Values.taskDefaults -}}
{{- range $key, $value := get $root.Values.tasks $name -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $task $key $value -}}{{- end -}}
{{- end -}}
{{- if not $task.args -}}
{{- $_ := set $task "args" (list $name) -}}
{{- if and (eq $name "check-consistency") $root.Values.qdrant.repair -}}{{- $_ := set $task "args" (list $name "--repair") -}}{{- end -}}
{{- end -}}
{{- if and $task.needsQdrant (not (include "rae-tasks.hasQdrant" $root)) -}}{{- $_ := set $task "enabled" false -}}{{- end -}}
{{- if kindIs "invalid" $task.softLimitSeconds -}}{{- $_ := set $task "softLimitSeconds" $root.Values.time.softLimitSeconds -}}{{- end -}}
{{- if kindIs "invalid" $task.graceSeconds -}}{{- $_ := set $task "graceSeconds" $root.Values.time.graceSeconds -}}{{- end -}}
{{- if kindIs "invalid" $task.activeDeadlineSeconds -}}
{{- $_ := set $task "activeDeadlineSeconds" (include "rae-tasks.deadline" $task | int) -}}
{{- end -}}
{{- toJson $task -}}
{{- end }}

{{/* Seconds for all attempts of a Job: each may run to its soft limit and its kill, and between them Kubernetes waits 10 s, 20 s,
     40 s ... up to 10 minutes. */}}
{{- define "rae-tasks.deadline" -}}
{{- $total := mul (add1 (int .backoffLimit)) (add (int .softLimitSeconds) (int .graceSeconds)) -}}
{{- $wait := 10 -}}
{{- range until (int .backoffLimit) -}}
{{- $total = add $total $wait -}}
{{- $wait = min 600 (mul 2 $wait) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* Names of the tasks that are rendered, sorted, as a JSON list. */}}
{{- define "rae-tasks.enabledTasks" -}}
{{- $names := list -}}
{{- range $name := keys .Values.tasks | sortAlpha -}}
{{- if (include "rae-tasks.task" (list $ $name) | fromJson).enabled -}}{{- $names = append $names $name -}}{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{/* When to give up, and when not to count a failure: an eviction is nobody's fault; 64, 65 and 78 must end the same way in any
     further attempt, and 126 and 127 mean that the image has no such program. The order matters. */}}
{{- define "rae-tasks.podFailurePolicy" -}}
rules:
  - action: Ignore
    onPodConditions:
      - type: DisruptionTarget
        status: "True"
  - action: FailJob
    onExitCodes:
      containerName: task
      operator: In
      values: [64, 65, 78, 126, 127]
{{- end }}
