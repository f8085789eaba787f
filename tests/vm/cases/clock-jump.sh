# The clock is set a day on, and a day back: who runs is neither timed out nor lost, who waits for another try does not wait
# a day, and nothing of the history goes.
# lanes: vm
# vm-releases: bookworm
# timeout: 300

instance steady again
history() { jq -s '[.[] | if type == "array" then .[] else . end] | length' <(claudectl events -o json); }
old=$(add again 'say long ago')
ended "$old" succeeded
steady=$(add steady $'await go\nsay done' --timeout 1h)
wait_running "$steady"
before=$(history)

# again_after SECONDS: one task waits for its second try; the clock is set; it comes all the same
again_after() {
  local id; id=$(add again $'once fail server\nsay better')
  waits() { jq -e '.state == "pending" and .attempts == 1' <(claudectl task show "$id" -o json) >/dev/null; }
  wait_until 60 'it waits for its second try' waits
  date -s "@$(($(date +%s) + $1))"
  claudectl task wait "$id" --timeout 1min >/dev/null || true
  same "task $id after the clock went by $1 s" "$(of "$id" .state)" succeeded
  same 'the steady one' "$(of "$steady" '"\(.state) \(.attempts)"')" 'running 1'
}
again_after 86400
again_after -86400
check 'no event is gone' test "$(history)" -gt "$before"
same 'the first task' "$(of "$old" .state)" succeeded
touch "$STATE/worktrees/steady/go"
ended "$steady" succeeded
same 'attempts' "$(of "$steady" .attempts)" 1
for n in steady again; do same "restarts of $n" "$(property "claude-code@$n.service" NRestarts)" 0; done
