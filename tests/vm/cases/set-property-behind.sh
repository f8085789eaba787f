# A limit that is changed behind clauded's back is seen and shown.
# lanes: vm

instance a
shown() { [ "$(claudectl status a -o json | jq -r '.caps[] | select(.unit == "claude-code-a.slice") | .memory_max')" = "$1" ]; }
systemctl set-property --runtime claude-code-a.slice MemoryMax=123M
wait_until 20 'it is shown' shown $((123 << 20))
lowest() { [ "$(claudectl status -o json | jq -r '.[] | select(.name == "a") | .memory_limit_bytes')" = "$1" ]; }
check 'and is the one that binds' lowest $((123 << 20))
systemctl set-property --runtime claude-code-a.slice MemoryMax=124M
wait_until 20 'the next one too' shown $((124 << 20))
event=$(wait_event 20 '"kind":"limits-changed"')
check 'an event tells it' grep -q MemoryMax <<<"$event"
