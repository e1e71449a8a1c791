{{- define "rollup.name" -}}
{{ .Values.fullnameOverride | default .Values.nameOverride | default "rollup-operator" }}
{{- end }}

{{- define "rollup.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "rollup.name" .) }}
{{- end }}

{{- define "rollup.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default "rollup-operator" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rollup.labels" -}}
{{ include "rollup.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata of an object of the release's namespace. */}}
{{- define "rollup.metadata" -}}
name: {{ include "rollup.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "rollup.labels" . | nindent 2 }}
{{- end }}

{{- define "rollup.replicas" -}}
{{- if kindIs "invalid" .Values.replicas -}}
{{ ternary 1 2 .Values.duckdb.enabled }}
{{- else if and .Values.duckdb.enabled (gt (int .Values.replicas) 1) -}}
{{- fail (printf "replicas is %d and duckdb.enabled is true: the files of a DuckDB store belong to one process. Set replicas to 1, or leave it out; for two replicas keep the stores on OpenSearch or Elasticsearch and set duckdb.enabled to false." (int .Values.replicas)) -}}
{{- else -}}
{{ int .Values.replicas }}
{{- end -}}
{{- end }}

{{/* The namespaces that are watched, as a JSON list; empty: all. */}}
{{- define "rollup.watched" -}}
{{- if .Values.watch.allNamespaces -}}
{{- if .Values.watch.namespaces -}}
{{- fail "watch.namespaces is set and watch.allNamespaces is true: set watch.allNamespaces to false to watch only these namespaces" -}}
{{- end -}}
[]
{{- else -}}
{{ .Values.watch.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end -}}
{{- end }}

{{/* The rules of one role of deploy/rbac. */}}
{{- define "rollup.rules" -}}
{{ (.context.Files.Get (printf "files/rbac/%s.yaml" .role) | fromYaml).rules | toYaml }}
{{- end }}

{{- define "rollup.subjects" -}}
- kind: ServiceAccount
  name: {{ include "rollup.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The names in the endpoint's certificate, as a JSON list. */}}
{{- define "rollup.dnsNames" -}}
{{- $name := include "rollup.name" . -}}
{{- $service := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) "localhost" -}}
{{ concat $service .Values.tls.dnsNames | uniq | toJson }}
{{- end }}

{{/* A setting as the text of a variable. Numbers of values are floats, and large ones would get an exponent. */}}
{{- define "rollup.text" -}}
{{- if kindIs "slice" . -}}
{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}
