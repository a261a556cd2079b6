{{/*
Names are the same in every release of a revision: documentation, alerts and runbooks use them. A second one of the same revision
in a cluster would serve the same namespaces, and is refused by helm, since the webhook configuration belongs to the first.
*/}}
{{- define "keeper-injector.name" -}}keeper-injector{{ with .Values.revision }}-{{ . }}{{ end }}{{- end }}
{{- define "keeper-injector.service" -}}{{ include "keeper-injector.name" . }}-webhook{{- end }}

{{/*
tls.mode, or what the deprecated tls.autoGenerate, tls.certManager and tls.certificate say; these are YAML with a list of
what was used. Secrets of different modes have different names: none finds what another left behind.
*/}}
{{- define "keeper-injector.tlsDeprecated" -}}
{{- $old := list }}
{{- if kindIs "bool" .Values.tls.autoGenerate }}{{ $old = append $old "tls.autoGenerate" }}{{ end }}
{{- range $key := list "enabled" "issuerKind" "issuerName" }}
{{- $value := get $.Values.tls.certManager $key }}
{{- if or (kindIs "bool" $value) $value }}{{ $old = append $old (print "tls.certManager." $key) }}{{ end }}
{{- end }}
{{- range $key, $value := .Values.tls.certificate }}
{{- if $value }}{{ $old = append $old (print "tls.certificate." $key) }}{{ end }}
{{- end }}
{{- join ", " $old }}
{{- end }}

{{- define "keeper-injector.tlsMode" -}}
{{- $mode := .Values.tls.mode }}
{{- $certManager := .Values.tls.certManager.enabled }}
{{- $said := "" }}
{{- if kindIs "bool" .Values.tls.autoGenerate }}
{{- $said = ternary (ternary "cert-manager" "auto" (default false $certManager)) "manual" .Values.tls.autoGenerate }}
{{- else if kindIs "bool" $certManager }}
{{- $said = ternary "cert-manager" "auto" $certManager }}
{{- end }}
{{- if and $said (ne $mode "auto") (ne $mode $said) }}
{{- fail (printf "tls.mode is %s, and the deprecated %s mean %s: remove them" $mode (include "keeper-injector.tlsDeprecated" .) $said) }}
{{- end }}
{{- $said | default $mode }}
{{- end }}

{{/* Whether the certificate is in deprecated values, or empty. */}}
{{- define "keeper-injector.tlsInValues" -}}
{{- if and (eq (include "keeper-injector.tlsMode" .) "manual") .Values.tls.certificate (or .Values.tls.certificate.crt .Values.tls.certificate.key .Values.tls.certificate.ca) -}}
true
{{- end }}
{{- end }}

{{- define "keeper-injector.tlsSecret" -}}
{{- $mode := include "keeper-injector.tlsMode" . }}
{{- if eq $mode "auto" }}{{ include "keeper-injector.name" . }}-tls
{{- else if or (eq $mode "cert-manager") (include "keeper-injector.tlsInValues" .) }}{{ include "keeper-injector.name" . }}-certificate
{{- else }}{{ .Values.tls.manual.secretName }}
{{- end }}
{{- end }}

{{/* In mode manual: the CA that API servers trust, PEM. */}}
{{- define "keeper-injector.tlsCA" -}}
{{- if include "keeper-injector.tlsInValues" . }}
{{- .Values.tls.certificate.ca | required "tls.certificate needs crt, key and ca" | b64dec }}
{{- else }}
{{- required "tls.mode manual needs tls.manual.caBundle: the CA that signed the certificate, in PEM" .Values.tls.manual.caBundle }}
{{- end }}
{{- end }}

{{/* Whether a leader is elected: where there is something that only one may do. */}}
{{- define "keeper-injector.electsLeader" -}}
{{- $election := .Values.leaderElection }}
{{- if and $election.enabled (or (eq (include "keeper-injector.tlsMode" .) "auto") $election.trafficToLeaderOnly) }}true{{ end }}
{{- end }}

{{- define "keeper-injector.selectorLabels" -}}
app.kubernetes.io/name: keeper-injector
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "keeper-injector.labels" -}}
{{ include "keeper-injector.selectorLabels" . }}
app.kubernetes.io/part-of: keeper-injector
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The same for what isn't the webhook's: the Service, the budget and the policies must not select it. */}}
{{- define "keeper-injector.backupLabels" -}}
{{- include "keeper-injector.labels" . | replace "component: webhook" "component: backup" }}
{{- end }}

{{/* An image with its tag, and its digest if that is stated; takes (list root image). */}}
{{- define "keeper-injector.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* How many webhook pods there are at least. */}}
{{- define "keeper-injector.minReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}
{{- else if .Values.keda.enabled }}{{ .Values.keda.minReplicas }}
{{- else }}{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{/* The sidecar's image, as JSON: the old name goes first, since the new one always has a value. */}}
{{- define "keeper-injector.sidecarImage" -}}
{{- $image := deepCopy .Values.sidecarImage }}
{{- range $key, $value := .Values.sidecar }}{{ if $value }}{{ $_ := set $image $key $value }}{{ end }}{{ end }}
{{- $image | toJson }}
{{- end }}

{{/* The device config that pods have by default. */}}
{{- define "keeper-injector.ksmConfig" -}}
{{ .Values.defaults.ksmConfig | default .Values.defaults.authSecretName | default "" }}
{{- end }}

{{/* The webhook's settings file. */}}
{{- define "keeper-injector.settings" -}}
{{- if and .Values.defaults.caCertSecret .Values.defaults.caCertConfigMap }}
{{- fail "defaults.caCertSecret and defaults.caCertConfigMap exclude each other: there is one extra trust root" }}
{{- end }}
{{- $defaults := dict "log-level" (.Values.defaults.logLevel | default .Values.logging.level) }}
{{- with include "keeper-injector.ksmConfig" . }}{{ $_ := set $defaults "ksm-config" . }}{{ end }}
{{- range $value, $annotation := dict
      "caCertSecret" "ca-cert-secret"
      "caCertConfigMap" "ca-cert-configmap"
      "caCertKey" "ca-cert-key"
      "format" "format"
      "refreshInterval" "refresh-interval"
      "cache" "cache"
      "onStale" "on-stale"
      "initPosition" "init-position"
      "sidecarMode" "sidecar-mode"
      "outputMode" "output-mode"
      "runAsSameUser" "run-as-same-user"
      "tmpfsSize" "tmpfs-size" }}
{{- with index $.Values.defaults $value }}{{ $_ := set $defaults $annotation . }}{{ end }}
{{- end }}
{{- with .Values.proxy.httpsProxy }}{{ $_ := set $defaults "proxy" . }}{{ end }}
{{- range $value, $annotation := dict
      "initOnly" "init-only"
      "failOnError" "fail-on-error"
      "strictLookup" "strict-lookup"
      "metricsPort" "metrics-port" }}
{{- $stated := index $.Values.defaults $value }}
{{- if not (kindIs "invalid" $stated) }}{{ $_ := set $defaults $annotation ($stated | toString) }}{{ end }}
{{- end }}
{{- $requests := .Values.sidecarResources.requests | default dict }}
{{- $limits := .Values.sidecarResources.limits | default dict }}
{{- $resources := dict
      "cpuRequest" ($requests.cpu | toString)
      "memoryRequest" ($requests.memory | toString)
      "cpuLimit" ($limits.cpu | toString)
      "memoryLimit" ($limits.memory | toString) }}
{{- range $key, $value := $resources }}
{{- if or (eq $value "") (eq $value "<nil>") }}{{ $_ := set $resources $key nil }}{{ end }}
{{- end }}
{{- $sidecar := include "keeper-injector.sidecarImage" . | fromJson }}
{{- $revision := dict }}
{{- with .Values.revision }}{{ $revision = dict "revision" . }}{{ end }}
{{- dict
      "sidecarImage" (include "keeper-injector.image" (list . $sidecar))
      "imagePullPolicy" $sidecar.pullPolicy
      "ownNamespace" .Release.Namespace
      "excludedNamespaces" .Values.excludedNamespaces
      "defaults" $defaults
      "noProxy" .Values.proxy.noProxy
      "resources" $resources
      "logFormat" .Values.logging.format
      "policy" (dict "denyAnnotations" .Values.policy.denyAnnotations "minRefreshInterval" .Values.policy.minRefreshInterval)
      "capabilities" (dict "fileKeyRef" .Values.capabilities.fileKeyRef)
    | merge $revision | toYaml }}
{{- end }}

{{- /* Where both webhook configurations lead, and in which namespaces. Called with a list: the root, and the path. */}}
{{- define "keeper-injector.clientConfig" -}}
{{- $root := index . 0 -}}
service:
  name: {{ include "keeper-injector.service" $root }}
  namespace: {{ $root.Release.Namespace }}
  path: {{ index . 1 }}
  port: 443
{{- /* In mode auto the webhook applies its own, in mode cert-manager that does: stated here, GitOps tools would take it away again. */}}
{{- if eq (include "keeper-injector.tlsMode" $root) "manual" }}
caBundle: {{ include "keeper-injector.tlsCA" $root | b64enc }}
{{- end }}
{{- end }}

{{- /* Annotations of both webhook configurations. */}}
{{- define "keeper-injector.configurationAnnotations" -}}
{{- if eq (include "keeper-injector.tlsMode" .) "cert-manager" -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "keeper-injector.name" . }}
{{- end }}
{{- end }}

{{/*
The namespaces that this release serves: with a revision those that are labelled with it, without one those that have no such label.
Without the safety net nobody would refuse the pods of a label that no release serves: then this release serves all.
*/}}
{{- define "keeper-injector.namespaceSelector" -}}
{{ include "keeper-injector.selectedNamespaces" . | trim }}
{{- if .Values.revision }}
  - key: keeper.security/revision
    operator: In
    values: [{{ .Values.revision | quote }}]
{{- else if .Values.safetyNet.enabled }}
  - key: keeper.security/revision
    operator: DoesNotExist
{{- end }}
{{- end }}

{{/*
The namespaces that the safety net is under: those that this release serves; without a revision also those with a label of one, since
that may be misspelt, or of a release that is gone.
*/}}
{{- define "keeper-injector.watchedNamespaces" -}}
{{- include (ternary "keeper-injector.namespaceSelector" "keeper-injector.selectedNamespaces" (ne .Values.revision "")) . }}
{{- end }}

{{/* The namespaces whose pods may be injected, by whatever release. The old name of the value is one more condition. */}}
{{- define "keeper-injector.selectedNamespaces" -}}
{{- $labels := merge (dict) (.Values.webhook.namespaceSelector.matchLabels | default dict) (.Values.namespaceSelector.matchLabels | default dict) }}
{{- with $labels }}
matchLabels: {{- toYaml . | nindent 2 }}
{{- end }}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{- concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.excludedNamespaces | uniq | toYaml | nindent 6 }}
  - key: keeper.security/inject
    operator: NotIn
    values: [disabled]
{{- range list .Values.webhook.namespaceSelector .Values.namespaceSelector }}
{{- with .matchExpressions }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A quantity of CPU in millicores. */}}
{{- define "keeper-injector.millicores" -}}
{{- $text := toString . }}
{{- if hasSuffix "m" $text }}{{ trimSuffix "m" $text | int }}{{ else }}{{ mulf (float64 $text) 1000 | int }}{{ end }}
{{- end }}

{{/* A quantity of memory in KiB, rounded up. */}}
{{- define "keeper-injector.kibibytes" -}}
{{- $text := toString . }}
{{- $number := regexFind "^[0-9.]+" $text | float64 }}
{{- $factors := dict "" 0.0009765625 "k" 0.9765625 "M" 976.5625 "G" 976562.5 "T" 976562500.0 "Ki" 1.0 "Mi" 1024.0 "Gi" 1048576.0 "Ti" 1073741824.0 }}
{{- mulf $number (get $factors (regexFind "[A-Za-z]*$" $text)) | ceil | int64 }}
{{- end }}

{{- /* CEL: whether a pod has a container of ours, told as the webhook tells it, by its name and its config. Every shape has one among the
init containers. */}}
{{- define "keeper-injector.isInjected" -}}
object.spec.?initContainers.orValue([]).exists(c, c.name.matches('^keeper-(init|sidecar)(-[0-9]+)?$') && c.?env.orValue([]).exists(e, e.name == 'KEEPER_AGENT_CONFIG'))
{{- end }}

{{- /* CEL: whether a pod asks for injection. What the webhook reads as "false" is what this does: in any case, with blanks around it. */}}
{{- define "keeper-injector.asksForInjection" -}}
object.metadata.?annotations[?'keeper.security/inject'].orValue('false').trim().lowerAscii() != 'false'
{{- end }}

{{- /* CEL: whether a pod is none that a kubelet shows to the API server. Such a one runs already, and the webhook leaves it as it is. */}}
{{- define "keeper-injector.isNoMirrorPod" -}}
!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))
{{- end }}

{{- /* What the API server calls the webhook's account. */}}
{{- define "keeper-injector.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "keeper-injector.name" . }}
{{- end }}

{{- /* CEL: whether two maps agree in all keys but some, also in keys that this chart doesn't know. Called with a list: the new map, the old
one, and the keys that may differ, as a list of CEL. */}}
{{- define "keeper-injector.sameBut" -}}
{{- $new := index . 0 }}{{ $old := index . 1 }}{{ $but := index . 2 -}}
{{ $new }}.all(k, k in {{ $but }} || (k in {{ $old }} && {{ $new }}[k] == {{ $old }}[k])) && {{ $old }}.all(k, k in {{ $but }} || k in {{ $new }})
{{- end }}
