#!/usr/bin/env python3
"""Makes the dashboards of Holdfast for Grafana: one JSON file each, beside this one.

    deploy/grafana/generate.py             write them
    deploy/grafana/generate.py --check     fail where a file is not what would be written
    deploy/grafana/generate.py --queries   print their queries as rules, for `promtool check rules`

They are data, so change this file and not them. Every dashboard asks for its data source and for
the shards to show; docs/METRICS.md has the metrics.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Of a grid of 24 columns.
WIDTH, HEIGHT = 8, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def query(expr, legend="", **more):
    return {"expr": expr, "legendFormat": legend, **more}


def panel(kind, title, queries, unit="short", width=WIDTH, about="", **options):
    """A panel; `options` are those of its kind."""
    defaults = {"unit": unit, "min": 0}
    if kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
            **options,
        }
    if kind == "stat":
        thresholds = options.pop("red_from", None)
        steps = [{"color": "green", "value": None}]
        if thresholds is not None:
            steps.append({"color": "red", "value": thresholds})
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        options = {
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
            **options,
        }
    targets = [
        {"datasource": SOURCE, "editorMode": "code", "range": True, "refId": chr(65 + at), **one}
        for at, one in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
        "width": width,
    }


def lines(title, expr, legend="", unit="short", **more):
    return panel("timeseries", title, [query(expr, legend)], unit, **more)


def several(title, queries, unit="short", **more):
    return panel("timeseries", title, [query(*one) for one in queries], unit, **more)


def number(title, expr, unit="short", legend="", red_from=None, **more):
    return panel("stat", title, [query(expr, legend)], unit, width=6, red_from=red_from, **more)


def quantiles(title, metric, by, legend, where="", **more):
    selector = "{%s}" % where if where else ""
    rate = f"rate({metric}_bucket{selector}[$__rate_interval])"
    return several(
        title,
        [
            (f"histogram_quantile({q}, sum by (le, {by}) ({rate}))", f"p{name} {legend}")
            for q, name in ((0.5, "50"), (0.95, "95"), (0.99, "99"))
        ],
        "s",
        **more,
    )


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def per_second(metric, by, where='shard=~"$shard"'):
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


MINOR = "Minor units of the currency: cents of USD, yen of JPY."
MONEY = 'shard=~"$shard",currency=~"$currency"'


def overview():
    def money(metric, by, where=MONEY):
        return per_second(metric, by, where)

    return [
        row("Now"),
        number("Transfers accepted", f"sum(rate(holdfast_transfers_accepted_total{{{MONEY}}}[$__rate_interval]))", "reqps"),
        number("Refused of those that end", f'sum(rate(holdfast_transfers_ended_total{{{MONEY},outcome!="committed"}}[$__rate_interval])) / sum(rate(holdfast_transfers_ended_total{{{MONEY}}}[$__rate_interval]))', "percentunit", red_from=0.05),
        number("Stuck", f"sum by (currency) (holdfast_stuck_minor_units{{{MONEY}}})", legend="{{currency}}", red_from=1, about=MINOR),
        number("Accounts in quarantine", 'sum(holdfast_drift_accounts{shard=~"$shard"})', red_from=1),
        row("Money that moves, a second"),
        lines("Accepted", money("holdfast_accepted_minor_units_total", "currency"), "{{currency}}", about=MINOR),
        lines("Committed", money("holdfast_ended_minor_units_total", "currency", MONEY + ',outcome="committed"'), "{{currency}}", about=MINOR),
        lines("Refused, by reason", money("holdfast_ended_minor_units_total", "currency, reason", MONEY + ',outcome!="committed"'), "{{currency}} {{reason}}", about=MINOR),
        row("Money that stands"),
        lines("Held now", f'sum by (currency) (holdfast_open_minor_units{{{MONEY},state="held"}})', "{{currency}}", about=MINOR),
        lines("Stuck, by stage", f"sum by (currency, stage) (holdfast_stuck_minor_units{{{MONEY}}})", "{{currency}} before {{stage}}", about=MINOR),
        lines("Drift", f"sum by (currency) (holdfast_drift_minor_units{{{MONEY}}})", "{{currency}}", about="By how much the books of accounts in quarantine differ. " + MINOR),
        row("Transfers"),
        several(
            "Accepted and ended, a second",
            [
                (f"sum(rate(holdfast_transfers_accepted_total{{{MONEY}}}[$__rate_interval]))", "accepted"),
                (money("holdfast_transfers_ended_total", "outcome"), "{{outcome}}"),
            ],
            "reqps",
        ),
        lines("Refused, by reason", money("holdfast_transfers_ended_total", "reason", MONEY + ',outcome!="committed"'), "{{reason}}", "reqps"),
        lines("Oldest that is not final", f"max by (state, currency) (holdfast_transfers_open_oldest_age_seconds{{{MONEY}}})", "{{state}} {{currency}}", "s"),
        row("Objective: 99.9 % end within 5 s"),
        quantiles("From acceptance to the end", "holdfast_transfer_seconds", "job", "", 'shard=~"$shard"'),
        several(
            "Within 0.25 s, 1 s, 5 s",
            [
                (f'sum(rate(holdfast_transfer_seconds_bucket{{shard=~"$shard",le=~"{le}|{le}[.]0"}}[$__rate_interval])) / sum(rate(holdfast_transfer_seconds_count{{shard=~"$shard"}}[$__rate_interval]))', f"{le} s")
                for le in ("0.25", "1", "5")
            ],
            "percentunit",
        ),
        several(
            "Burn rates",
            [
                ("holdfast:transfers_late:ratio_rate5m / 0.001", "5m"),
                ("holdfast:transfers_late:ratio_rate30m / 0.001", "30m"),
                ("holdfast:transfers_late:ratio_rate1h / 0.001", "1h"),
                ("holdfast:transfers_late:ratio_rate6h / 0.001", "6h"),
            ],
            about="1 spends the budget of 30 days in 30 days; 14.4 in two days.",
        ),
    ]


def pipeline():
    own = 'shard=~"$shard"'
    return [
        row("Events"),
        lines("Read, a second", per_second("holdfast_events_read_total", "role"), "{{role}}", "reqps"),
        lines("Done, a second", per_second("holdfast_events_total", "role, outcome"), "{{role}} {{outcome}}", "reqps"),
        lines("Published by the relay, a second", per_second("holdfast_outbox_records_total", "shard"), "shard {{shard}}", "reqps"),
        row("Time"),
        quantiles("In a stage", "holdfast_stage_seconds", "role", "{{role}}", own),
        quantiles("Of a batch", "holdfast_step_seconds", "role", "{{role}}", own),
        lines("Events of a batch, mean", f"sum by (role) (rate(holdfast_step_batch_size_sum{{{own}}}[$__rate_interval])) / sum by (role) (rate(holdfast_step_batch_size_count{{{own}}}[$__rate_interval]))", "{{role}}"),
        row("Behind"),
        lines("Records to read", f"max by (role, shard) (holdfast_consumer_lag_records{{{own}}})", "{{role}} {{shard}}"),
        lines("Age of the oldest", f"max by (role, shard) (holdfast_consumer_lag_seconds{{{own}}})", "{{role}} {{shard}}", "s"),
        several(
            "Outbox",
            [(f"max by (shard) (holdfast_outbox_unsent{{{own}}})", "records of {{shard}}"), (f"max by (shard) (holdfast_outbox_age_seconds{{{own}}})", "seconds of {{shard}}")],
        ),
        row("Trouble"),
        lines("Errors of batches, a second", per_second("holdfast_step_errors_total", "role, error"), "{{role}} {{error}}", "reqps"),
        lines("Batches applied again, a second", per_second("holdfast_step_retries_total", "role"), "{{role}}", "reqps"),
        lines("Transactions run again, a second", per_second("holdfast_transaction_retries_total", "shard, error"), "{{shard}} {{error}}", "reqps"),
        lines("Dead letters", f"sum by (role, reason) (increase(holdfast_dead_letters_total{{{own}}}[$__rate_interval]))", "{{role}} {{reason}}"),
        lines("Roles that began again", f"sum by (role, shard) (increase(holdfast_worker_restarts_total{{{own}}}[$__rate_interval]))", "{{role}} {{shard}}"),
        lines("Driven on by the reconciler", f"sum by (action) (increase(holdfast_reconciler_actions_total{{{own}}}[$__rate_interval]))", "{{action}}"),
    ]


def shards():
    own = 'shard=~"$shard"'
    return [
        row("Work"),
        lines("Transfers accepted, a second", per_second("holdfast_transfers_accepted_total", "shard"), "shard {{shard}}", "reqps"),
        lines("Transfers ended, a second", per_second("holdfast_transfers_ended_total", "shard, outcome"), "shard {{shard}} {{outcome}}", "reqps"),
        quantiles("From acceptance to the end", "holdfast_transfer_seconds", "shard", "shard {{shard}}", own),
        row("Transactions"),
        quantiles("Group commits", "holdfast_group_commit_seconds", "shard", "shard {{shard}}", own),
        lines("Requests of a group commit, mean", f"sum by (shard) (rate(holdfast_group_commit_size_sum{{{own}}}[$__rate_interval])) / sum by (shard) (rate(holdfast_group_commit_size_count{{{own}}}[$__rate_interval]))", "shard {{shard}}"),
        lines("Batches that share a transaction, mean", f"sum by (shard) (rate(holdfast_turn_decisions_sum{{{own}}}[$__rate_interval])) / sum by (shard) (rate(holdfast_turn_decisions_count{{{own}}}[$__rate_interval]))", "shard {{shard}}"),
        row("Under way"),
        lines("Transfers that are not final", f"sum by (shard, state) (holdfast_transfers_open{{{own}}})", "shard {{shard}} {{state}}"),
        lines("Stuck transfers", f"sum by (shard, stage) (holdfast_transfers_stuck{{{own}}})", "shard {{shard}} before {{stage}}"),
        lines("Told overloaded, a second", per_second("holdfast_overloaded_total", "shard, why"), "shard {{shard}} {{why}}", "reqps"),
        row("Books"),
        lines("Since the reconciler's last round", f"time() - max by (shard) (holdfast_reconciler_last_pass_timestamp_seconds{{{own}}})", "shard {{shard}}", "s"),
        lines("Since the last pass of the drift check", f"time() - max by (shard, pass) (holdfast_drift_last_pass_timestamp_seconds{{{own}}})", "shard {{shard}} {{pass}}", "s"),
        several(
            "Found and in quarantine",
            [(f"sum by (shard, what) (increase(holdfast_drift_found_total{{{own}}}[$__rate_interval])) > 0", "{{shard}}: {{what}}"), (f"sum by (shard) (holdfast_drift_accounts{{{own}}})", "in quarantine on {{shard}}")],
        ),
        lines("Compared, a second", per_second("holdfast_drift_compared_total", "shard, pass"), "shard {{shard}} {{pass}}", "reqps"),
        lines("Projections copied, a second", per_second("holdfast_projection_refreshed_total", "shard"), "shard {{shard}}", "reqps"),
    ]


def api():
    every = 'route=~"/v1/.*|/api/.*"'
    rate = "[$__rate_interval]"
    return [
        row("Requests"),
        lines("A second, by route", f"sum by (route, method) (rate(holdfast_http_requests_total{{{every}}}{rate}))", "{{method}} {{route}}", "reqps"),
        lines("By status", f"sum by (status) (rate(holdfast_http_requests_total{{{every}}}{rate}))", "{{status}}", "reqps"),
        lines("5xx of all", f'(sum(rate(holdfast_http_requests_total{{{every},status=~"5.."}}{rate})) or vector(0)) / sum(rate(holdfast_http_requests_total{{{every}}}{rate}))', unit="percentunit"),
        row("Time"),
        quantiles("Without waiting for an end", "holdfast_http_request_seconds", "job", "", every + ',waits="no"'),
        quantiles("With it", "holdfast_http_request_seconds", "job", "", every + ',waits="yes"'),
        lines("p95 by route, without waiting", f'histogram_quantile(0.95, sum by (le, route, method) (rate(holdfast_http_request_seconds_bucket{{{every},waits="no"}}{rate})))', "{{method}} {{route}}", "s"),
        row("Refusals"),
        lines("Problems, by code", f"sum by (code) (rate(holdfast_http_problems_total{rate}))", "{{code}}", "reqps"),
        lines("Told overloaded", per_second("holdfast_overloaded_total", "shard, why"), "shard {{shard}} {{why}}", "reqps"),
        lines("Too many in a process", f"sum by (instance) (rate(holdfast_crowded_total{rate}))", "{{instance}}", "reqps"),
        row("Connections"),
        lines("Open", "sum by (instance) (holdfast_http_connections)", "{{instance}}"),
        lines("Had to wait to be let in", f"sum by (instance) (increase(holdfast_http_connections_full_total{rate}))", "{{instance}}"),
        several(
            "Ended early",
            [(f"sum by (what) (increase(holdfast_http_timeouts_total{rate}))", "{{what}} took too long"), (f"sum(increase(holdfast_tls_refused_total{rate}))", "no TLS")],
        ),
    ]


def dependencies():
    rate = "[$__rate_interval]"
    return [
        row("Processes"),
        number("Processes", "count(holdfast_build_info)"),
        lines("Releases", "count by (version) (holdfast_build_info)", "{{version}}"),
        lines("Processes that answer Prometheus", 'up{job=~"holdfast.*"}', "{{instance}}"),
        row("Breakers"),
        lines("State", "max by (dependency) (holdfast_breaker_state)", "{{dependency}}", about="0 closed, 1 half-open, 2 open; the worst of all processes."),
        lines("Processes whose breaker is open", "count by (dependency) (holdfast_breaker_state == 2)", "{{dependency}}"),
        lines("Moves", f"sum by (dependency, to) (increase(holdfast_breaker_transitions_total{rate}))", "{{dependency}} {{to}}"),
        row("MySQL"),
        lines("Errors of batches, a second", per_second("holdfast_step_errors_total", "shard, error"), "shard {{shard}} {{error}}", "reqps"),
        lines("p95 of a batch", 'histogram_quantile(0.95, sum by (le, shard) (rate(holdfast_step_seconds_bucket{shard=~"$shard",role=~"hold|credit|commit"}[$__rate_interval])))', "shard {{shard}}", "s"),
        lines("Let go, a second", per_second("holdfast_events_total", "role, shard", 'shard=~"$shard",outcome="let_go"'), "{{role}} to shard {{shard}}", "reqps"),
        row("Read replicas"),
        lines("Reads of lists and histories, a second", per_second("holdfast_reads_total", "shard, from"), "shard {{shard}} from its {{from}}", "reqps"),
        lines("Since when a replica may lack something", 'max by (shard) (holdfast_replica_age_seconds{shard=~"$shard"})', "shard {{shard}}", "s"),
        row("Kafka and Redis"),
        lines("Age of the outbox", 'max by (shard) (holdfast_outbox_age_seconds{shard=~"$shard"})', "shard {{shard}}", "s"),
        lines("p95 of publishing", 'histogram_quantile(0.95, sum by (le, shard) (rate(holdfast_step_seconds_bucket{shard=~"$shard",role="relay"}[$__rate_interval])))', "shard {{shard}}", "s"),
        lines("Writes to Redis that failed, a second", f"sum by (instance) (rate(holdfast_cache_errors_total{rate}))", "{{instance}}", "reqps"),
    ]


DASHBOARDS = [
    ("overview", "Holdfast: money", overview, ["currency"]),
    ("pipeline", "Holdfast: pipeline", pipeline, []),
    ("shards", "Holdfast: shards", shards, []),
    ("api", "Holdfast: API", api, []),
    ("dependencies", "Holdfast: dependencies", dependencies, []),
]


def chosen(name, metric):
    """A variable whose values are those of a label."""
    values = f"label_values({metric}, {name})"
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": SOURCE,
        "definition": values,
        "query": {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 3,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def laid_out(panels):
    """Gives each panel its number and its place: rows of panels, from left to right."""
    x = y = 0
    placed = []
    for number, one in enumerate(panels, start=1):
        one = dict(one)
        if one["type"] == "row":
            y += HEIGHT if x else 0
            place = {"h": 1, "w": 24, "x": 0, "y": y}
            x, y = 0, y + 1
        else:
            width = one.pop("width")
            if x + width > 24:
                x, y = 0, y + HEIGHT
            place = {"h": HEIGHT, "w": width, "x": x, "y": y}
            x += width
        placed.append({"id": number, "gridPos": place, **one})
    return placed


def dashboard(name, title, panels, variables):
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "options": [],
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "skipUrlSync": False,
    }
    chosen_ones = [chosen("shard", "holdfast_outbox_unsent")]
    chosen_ones += [chosen(one, "holdfast_transfers_accepted_total") for one in variables]
    others = [{"asDropdown": False, "icon": "dashboard", "includeVars": True, "keepTime": True, "tags": ["holdfast"], "targetBlank": False, "title": "Holdfast", "tooltip": "", "type": "dashboards", "url": ""}]
    return {
        "uid": f"holdfast-{name}",
        "title": title,
        "tags": ["holdfast"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "utc",
        "annotations": {"list": []},
        "links": others,
        "templating": {"list": [source, *chosen_ones]},
        "panels": laid_out(panels),
    }


def expressions(board):
    """The queries of a dashboard, as Prometheus gets them."""
    for one in board["panels"]:
        for target in one.get("targets", []):
            expr = target["expr"].replace("$__rate_interval", "5m")
            yield expr.replace("$shard", ".*").replace("$currency", ".*")


def main(arguments):
    boards = {name: dashboard(name, title, panels(), variables) for name, title, panels, variables in DASHBOARDS}
    if arguments == ["--queries"]:
        rules = [
            {"record": f"query:{name}:{at}", "expr": expr}
            for name, board in boards.items()
            for at, expr in enumerate(expressions(board))
        ]
        # JSON is YAML.
        print(json.dumps({"groups": [{"name": "queries", "rules": rules}]}, indent=1))
        return 0
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wrong = []
    for name, board in boards.items():
        path, text = HERE / f"{name}.json", json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        if arguments:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                wrong.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if wrong:
        print(f"{', '.join(wrong)}: not what deploy/grafana/generate.py makes; run it", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
