# A change of limits in the configuration reaches the kernel with `systemctl reload clauded`, and disturbs nobody.
# lanes: vm

allow() { printf '[instances.x.limits]\nmemory = "%s"\n' "$1" >/etc/clauded/clauded.toml.d/60-case.toml; }
allow 300M
systemctl daemon-reload
instance x
limited() { [ "$(cat "$(slice x)/memory.max")" = $(($1 << 20)) ]; }
check 'the first limit' limited 300
first=$(property claude-code@x.service InvocationID)
id=$(add x 'sleep 600s')
wait_running "$id"
for m in 200 400; do
  allow ${m}M
  systemctl reload clauded
  wait_until 30 "$m MiB are in force" limited $m
done
shown() { [ "$(claudectl status x -o json | jq -r '.caps[] | select(.unit == "claude-code-x.slice") | .memory_max')" = "$1" ]; }
wait_until 30 'and shown' shown $((400 << 20))
same 'the invocation' "$(property claude-code@x.service InvocationID)" "$first"
same 'the task' "$(of "$id" .state)" running
