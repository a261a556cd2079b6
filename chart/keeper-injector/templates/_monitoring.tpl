{{/*
The groups of rules/*.yaml as the values want them: without the alerts and objectives that are switched off, with the numbers, durations,
severities, labels and runbooks of those that are not.
*/}}
{{- define "keeper-injector.ruleGroups" -}}
{{- $groups := list }}
{{- range $file := list "rules/alerts.yaml" "rules/slo.yaml" }}
{{- range $group := ($.Files.Get $file | fromYaml).groups }}
{{- $rules := list }}
{{- range $rule := $group.rules }}
{{- $slo := dig "labels" "slo" "" $rule }}
{{- if $rule.alert }}
{{- $settings := get $.Values.alerts.rules $rule.alert }}
{{- if $settings.enabled }}
{{- $numbers := omit $settings "enabled" "severity" "duration" "runbookUrl" "labels" "annotations" }}
{{- if and (hasKey $numbers "threshold") (kindIs "invalid" $numbers.threshold) }}
{{- $_ := set $numbers "threshold" (include "keeper-injector.leastReplicas" $) }}
{{- end }}
{{- $runbook := $settings.runbookUrl | default (printf "%s/%s.md" (trimSuffix "/" $.Values.alerts.runbookUrl) $rule.alert) }}
{{- $rules = append $rules (dict
      "alert" $rule.alert
      "expr" (include "keeper-injector.expression" (list $rule.expr $numbers))
      "for" $settings.duration
      "labels" (merge (dict "severity" $settings.severity) ($settings.labels | default dict) $.Values.alerts.ruleLabels)
      "annotations" (merge (dict "runbook_url" $runbook) ($settings.annotations | default dict) $.Values.alerts.ruleAnnotations $rule.annotations)) }}
{{- end }}
{{- else if not $slo }}
{{- $rules = append $rules $rule }}
{{- else if (get $.Values.alerts.slo $slo).enabled }}
{{- $numbers := omit (get $.Values.alerts.slo $slo) "enabled" }}
{{- $rules = append $rules (set $rule "expr" (include "keeper-injector.expression" (list $rule.expr $numbers))) }}
{{- end }}
{{- end }}
{{- if $rules }}
{{- $groups = append $groups (dict "name" $group.name "rules" $rules) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $groups }}
{{- end }}

{{/* How many webhook pods there are at least. */}}
{{- define "keeper-injector.leastReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}
{{- else if .Values.keda.enabled }}{{ .Values.keda.minReplicas }}
{{- else }}{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{/* An expression with other numbers; takes (list expression numbers). In it, each stands before `# name`. */}}
{{- define "keeper-injector.expression" -}}
{{- $expression := index . 0 }}
{{- range $name, $number := index . 1 }}
{{- $expression = regexReplaceAll (printf "[0-9.]+ # %s\\b" $name) $expression ($number | toString) }}
{{- end }}
{{- $expression }}
{{- end }}

{{/* What tells the Service of all replicas' metrics from the one for admissions. */}}
{{- define "keeper-injector.metricsLabels" -}}
app.kubernetes.io/name: keeper-injector
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: metrics
{{- end }}
