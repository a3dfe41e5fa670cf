#!/usr/bin/env bash
# What shows the inside of the stack: the alert rules by promtool, and that each metric which a rule or the
# dashboard names is there on a running stack, and each query is one that Prometheus takes.
#
#   tests/observability/test.sh [PROMETHEUS]    e.g. http://127.0.0.1:9090; without it: the files alone
#
# PROMETHEUS scrapes a stack that accepted, refused, published, projected and read something.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
prometheus=${1:-}
rules=infra/prometheus/rules.yml
dashboard=infra/grafana/dashboards/daybook.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

check() { # NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/    /' "$work/output"
    fi
}
# Grafana's own variables are none of Prometheus's.
# shellcheck disable=SC2016
queries() { jq -r '.panels[] | .targets[]? | .expr' "$dashboard" | sed 's/\$__rate_interval/1m/g'; }
metrics_named() { { queries; promtool_expressions; } | grep -oE '\b(daybook|node|process)_[a-z0-9_]+|\bup\b' | sort -u; }
promtool_expressions() { sed -n '/expr:/,/^ *\(for\|labels\):/p' "$rules"; }

queries_are_well_formed() { # as recording rules, for promtool
    local n=0 query
    { echo 'groups: [{name: dashboard, rules: ['
        while read -r query; do
            n=$((n + 1))
            printf '  {record: "q%d", expr: %s},\n' "$n" "$(jq -Rn --arg q "$query" '$q')"
        done < <(queries)
        echo ']}]'; } >"$work/queries.yml"
    [ "$n" -gt 20 ] && promtool check rules "$work/queries.yml"
}
dashboard_is_provisioned() { # the uid of the data source that it asks for is the one that is made
    local uid folder
    uid=$(sed -n 's/^ *uid: *//p' infra/grafana/provisioning/datasources/prometheus.yml)
    if [ -z "$uid" ] || [ "$(jq -r '[.panels[] | .datasource?.uid // empty] | unique | join(" ")' "$dashboard")" != "$uid" ]; then
        echo "the data source is not \"$uid\""
        return 1
    fi
    folder=$(sed -n 's/.*path: *\([^}]*\)}.*/\1/p' infra/grafana/provisioning/dashboards/daybook.yml)
    grep -q "infra/grafana/dashboards:$folder:ro" docker-compose.yml || { echo "$folder is not mounted"; return 1; }
    grep -q 'url: http://prometheus:9090' infra/grafana/provisioning/datasources/prometheus.yml
}
# What Grafana asks of a dashboard from a file, as far as that can be known without it: its own number is
# left to Grafana, its panels are of kinds that it brings, in a grid of 24 columns, none over another.
dashboard_is_one() {
    jq -e '
        def cells: .gridPos as $g | [range($g.x; $g.x + $g.w) as $x | range($g.y; $g.y + $g.h) as $y | [$x, $y]];
        def say($what; ok): if ok then empty else $what end;
        [say("id, uid, title"; .id == null and (.uid | test("^[A-Za-z0-9_-]{1,40}$")) and (.title | length > 0)),
         say("schemaVersion"; .schemaVersion >= 36 and .schemaVersion <= 39),
         say("time"; (.time.from | startswith("now")) and .time.to == "now"),
         say("ids"; [.panels[].id] | length > 8 and length == (unique | length)),
         say("grid"; all(.panels[].gridPos; .x >= 0 and .w >= 1 and .h >= 1 and .x + .w <= 24)),
         say("overlap"; [.panels[] | cells[]] | length == (unique | length)),
         (.panels[] | "\(.title): " as $p |
             say($p + "kind"; .type | IN("row", "stat", "timeseries", "gauge", "table", "heatmap", "bargauge", "text")),
             (select(.type != "row") |
                 say($p + "no title"; .title | length > 0),
                 say($p + "no query"; .targets | length > 0),
                 say($p + "refId"; [.targets[].refId] | length == (unique | length) and all(length > 0)),
                 say($p + "data source"; .datasource.type == "prometheus" and
                     all(.targets[]; .datasource.uid == "prometheus" and (.expr | length > 0))),
                 say($p + "unit"; .fieldConfig.defaults.unit | type == "string" and length > 0),
                 say($p + "overrides"; all(.fieldConfig.overrides[]; has("matcher") and has("properties"))),
                 say($p + "calcs"; .type != "stat" or (.options.reduceOptions.calcs | length > 0))))]
        | if length == 0 then true else error(join("; ")) end' "$dashboard"
}
every_alert_is_tested() {
    local alert
    while read -r alert; do
        grep -q "alertname=\"$alert\"" tests/observability/rules_test.yml ||
            { echo "$alert is not in rules_test.yml"; return 1; }
    done < <(sed -n 's/.*- alert: //p' "$rules")
}
api() { curl -fsS -m 10 -G "$prometheus/api/v1/$1" "${@:2}"; }
all_targets_are_up() {
    api targets | jq -e '[.data.activeTargets[]] | length >= 5 and all(.health == "up")' >/dev/null
}
rules_are_loaded() { api rules | jq -e '[.data.groups[].rules[]] | length >= 10 and all(.health != "err")'; }
every_metric_exists() {
    local missing=0 name names
    names=$(api label/__name__/values | jq -r '.data[]') || return 1
    for name in $(metrics_named); do
        grep -qxF "$name" <<<"$names" || { echo "no such metric: $name"; missing=1; }
    done
    return $missing
}
every_query_answers() {
    local query bad=0 n=0
    while read -r query; do
        n=$((n + 1))
        api query --data-urlencode "query=$query" | jq -e '.status == "success" and (.data.result | length > 0)' \
            >/dev/null || { echo "no answer: $query"; bad=1; }
    done < <(queries)
    [ "$n" -gt 20 ] && [ "$bad" = 0 ]
}
within() { # SECONDS COMMAND…: Prometheus looks every five seconds
    local limit=$((SECONDS + $1))
    shift
    until "$@" >"$work/last" 2>&1; do
        [ $SECONDS -lt $limit ] || { cat "$work/last"; return 1; }
        sleep 0.5
    done
}

check 'the rules are valid' promtool check rules "$rules"
# Its files are where the container has them; the rules are checked above.
check 'the scrape configuration is valid' promtool check config --syntax-only infra/prometheus/prometheus.yml
check 'each alert comes when it should, and only then' promtool test rules tests/observability/rules_test.yml
check 'each alert has a test' every_alert_is_tested
check 'each query of the dashboard is well-formed' queries_are_well_formed
check 'the dashboard and its data source fit' dashboard_is_provisioned
check 'the dashboard is one that Grafana takes, as far as its file can tell' dashboard_is_one
if [ -n "$prometheus" ]; then
    check 'every process is scraped' within 60 all_targets_are_up
    check 'the rules are loaded' rules_are_loaded
    check 'each metric that a rule or the dashboard names exists' within 30 every_metric_exists
    check 'each query of the dashboard has an answer' within 30 every_query_answers
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
