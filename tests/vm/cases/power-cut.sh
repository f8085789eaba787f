# The power fails under a busy queue: every acknowledged task is there afterwards and ends well, none twice at once.
# lanes: vm
# again: reset
# timeout: 400

names=(a b c)
if [ -z "$AGAIN" ]; then
  install -d "$LEFT"
  instance "${names[@]}"
  systemctl enable claude-code@{a,b,c}.service
  sync
  for i in $(seq 24); do
    add "${names[i % 3]}" $'sleep 2s\nsay '"$i" >>"$LEFT/acknowledged"
    sync "$LEFT/acknowledged"
  done
  wait_event 60 '"kind":"task-finished"' >/dev/null
  check 'the queue is busy' jq -e '.[] | select(.state == "running")' <(claudectl task list --all -o json)
else
  ids=$(cat "$LEFT/acknowledged")
  same 'acknowledged' "$(wc -l <"$LEFT/acknowledged")" 24
  check 'clauded is back' systemctl -q is-active clauded.service
  # shellcheck disable=SC2086 # numbers, one a word
  claudectl task wait $ids --timeout 5min >/dev/null || true
  all=$(claudectl task list --all -o json)
  for id in $ids; do same "task $id" "$(jq -r ".[] | select(.id == $id) | .state" <<<"$all")" succeeded; done
  same 'tasks that nobody added' "$(jq length <<<"$all")" 24
  for id in $ids; do
    check "no two attempts of $id overlap" jq -e '[.history[] | select(.started) | [.started, .finished]] | sort | . as $h | all(range(1; length); $h[.][0] >= ($h[. - 1][1] // "0"))' <(claudectl task show "$id" -o json)
  done
fi
