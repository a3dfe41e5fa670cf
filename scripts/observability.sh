# shellcheck shell=bash disable=SC2154 # $state, $run, $logs, … are stack.sh's
# Sourced by stack.sh: Prometheus on the local stack (`make up OBSERVABILITY=1`), from Debian's packages,
# with the rules of infra/prometheus. OBSERVABILITY=0 at the next `up` leaves it out again. Where the
# processes ask for keys, DAYBOOK_PROMETHEUS_KEY_PATH names a file with one of scope admin.

observability=${OBSERVABILITY:-$(cat "$run/observability" 2>/dev/null || echo 0)}
prometheus_port=$(port PROMETHEUS)
node_exporter_port=$(port NODE_EXPORTER)

observability_names() { [ "$observability" != 1 ] || echo node-exporter prometheus; }
observability_target() { # JOB NAME…
    local job=$1 name list=
    shift
    for name in "$@"; do list="$list${list:+, }\"127.0.0.1:$(port_of "$name")\""; done
    printf '{"targets": [%s], "labels": {"job": "%s"}}' "$list" "$job"
}
# What runs where; Prometheus sees it when the file changes.
write_targets() {
    local file=$state/prometheus/targets.json
    [ "$observability" = 1 ] || return 0
    mkdir -p "$state/prometheus"
    {
        printf '[%s,\n' "$(observability_target command-api command-api)"
        printf ' %s,\n' "$(observability_target relay relay)"
        # shellcheck disable=SC2046 # names
        printf ' %s,\n' "$(observability_target projector $(names | grep '^projector'))"
        printf ' %s,\n' "$(observability_target query-api query-api)"
        printf ' %s]\n' "$(observability_target node node-exporter)"
    } >"$file.new"
    mv "$file.new" "$file"
}
start_node_exporter() {
    launch node-exporter prometheus-node-exporter --web.listen-address="127.0.0.1:$node_exporter_port" \
        --collector.disable-defaults --collector.filesystem
}
start_prometheus() {
    write_targets
    cat >"$state/prometheus/prometheus.yml" <<EOF
global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: [$root/infra/prometheus/rules.yml]
scrape_configs:
  - job_name: daybook
    ${DAYBOOK_PROMETHEUS_KEY_PATH:+authorization: {credentials_file: $DAYBOOK_PROMETHEUS_KEY_PATH\}}
    file_sd_configs: [{files: [$state/prometheus/targets.json]}]
EOF
    launch prometheus prometheus --config.file="$state/prometheus/prometheus.yml" \
        --storage.tsdb.path="$state/prometheus/data" --web.listen-address="127.0.0.1:$prometheus_port"
}
