# The clock is set a day on, and a day back: who runs is neither timed out nor lost, who waits for another try does not wait
# a day, and nothing of the history goes.
# lanes: vm
# vm-releases: bookworm
# timeout: 300

instance steady again
history() { events length; }
old=$(add again 'say long ago')
ended "$old" succeeded
steady=$(add steady $'await go\nsay done' --timeout 1h)
wait_running "$steady"
before=$(history)

waits() { jq -e '.state == "pending" and .attempts == 1' <(claudectl task show "$id" -o json) >/dev/null; }
# jump SECONDS: with one task that runs and one that waits for its second try
jump() {
  id=$(add again $'once fail server\nsay better')
  wait_until 60 'it waits for its second try' waits
  date -s "@$(($(date +%s) + $1))"
}
jump 86400
ended "$id" succeeded
same 'the steady one' "$(of "$steady" '"\(.state) \(.attempts)"')" 'running 1'
# Set back, the time of day that it waits for is a day away; the longest back-off there is bounds the wait.
jump -86400
soon() { jq -e '.state != "pending" or (.not_before // "1970-01-01T00:00:00Z" | sub("\\.[0-9]+"; "") | fromdate) <= now + 301' <(claudectl task show "$id" -o json) >/dev/null; }
wait_until 90 'it comes within the longest back-off, not in a day' soon
claudectl task cancel "$id" >/dev/null
same 'the steady one' "$(of "$steady" '"\(.state) \(.attempts)"')" 'running 1'
check 'no event is gone' test "$(history)" -gt "$before"
same 'the first task' "$(of "$old" .state)" succeeded
touch "$STATE/worktrees/steady/go"
ended "$steady" succeeded
same 'attempts' "$(of "$steady" .attempts)" 1
for n in steady again; do same "restarts of $n" "$(property "claude-code@$n.service" NRestarts)" 0; done
