# The power fails under a busy queue: every acknowledged task is there afterwards and ends well, none twice at once.
# lanes: vm
# vm-releases: bookworm trixie bullseye
# again: reset
# timeout: 400

names=(a b c)
if [ -z "$AGAIN" ]; then
  install -d "$LEFT"
  instance "${names[@]}"
  systemctl enable claude-code@{a,b,c}.service
  sync
  for i in $(seq 12); do
    add "${names[i % 3]}" $'sleep 2s\nsay '"$i" >>"$LEFT/acknowledged"
    sync "$LEFT/acknowledged"
  done
  wait_event 60 '"kind":"task-finished"' >/dev/null
  busy() { claudectl task list --all -o json | jq -e 'any(.[]; .state == "running") and any(.[]; .state == "pending")' >/dev/null; }
  wait_until 30 'tasks run and others wait' busy
else
  ids=$(cat "$LEFT/acknowledged")
  same 'acknowledged' "$(wc -l <"$LEFT/acknowledged")" 12
  check 'clauded is back' systemctl -q is-active clauded.service
  # shellcheck disable=SC2086 # numbers, one a word
  claudectl task wait $ids --timeout 5min >/dev/null || true
  all=$(claudectl task list --all -o json)
  same 'tasks that nobody added' "$(jq length <<<"$all")" 12
  for id in $ids; do
    one=$(claudectl task show "$id" -o json)
    same "task $id" "$(jq -r .state <<<"$one")" succeeded
    check "no two attempts of $id overlap" jq -e '[.history[] | select(.started) | [.started, .finished]] | sort | . as $h | all(range(1; length); $h[.][0] >= ($h[. - 1][1] // "0"))' <<<"$one"
  done
  check 'some were interrupted' jq -e 'any(.[]; .attempts > 1)' <<<"$all"
fi
