# A real Prometheus scrapes the endpoint, and promtool has nothing to say about it.
# lanes: container
# releases: bookworm
# files: prometheus

instance a
id=$(add a 'say hi')
ended "$id" succeeded
curl -sf http://127.0.0.1:8888/metrics >/run/metrics
check 'promtool is content' prometheus/promtool check metrics </run/metrics
cat >/run/prometheus.yml <<'YAML'
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs: [{ job_name: clauded, static_configs: [{ targets: ['127.0.0.1:8888'] }] }]
YAML
prometheus/prometheus --config.file=/run/prometheus.yml --storage.tsdb.path=/run/prometheus --web.listen-address=127.0.0.1:9090 >/run/prometheus.log 2>&1 &
ask() { curl -sf http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" | jq -e "$2" >/dev/null; }
wait_until 60 'it is scraped' ask 'up{job="clauded"}' '.data.result[0].value[1] == "1"'
wait_until 60 'it knows the instance' ask 'clauded_instance_info{instance="a"} or clauded_instance_info{exported_instance="a"}' '.data.result | length > 0'
wait_until 60 'it knows the finished task' ask 'sum(clauded_tasks_finished_total)' '.data.result[0].value[1] | tonumber >= 1'
kill %1
