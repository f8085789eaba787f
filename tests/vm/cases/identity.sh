# Who may do what is answered by the kernel: strangers nothing, the group everything, an agent reads and adds no tasks.
# lanes: vm container

instance a
refute 'a stranger is refused' runuser -u nobody -- claudectl status
code=0; runuser -u nobody -- claudectl status >/dev/null 2>&1 || code=$?
same 'with the exit status of no permission' $code 4
group=$(getent group claude-code | cut -d: -f3)
# As an agent's process has it that has left its unit: systemd gave it the group, no administrator did.
stray() { setpriv --reuid=nobody --regid=nogroup --groups="$group" "$@"; }
check 'who has the group and is no member may look' stray claudectl status >/dev/null
refute 'and add no tasks' stray claudectl task add --instance a 'say hi'
usermod -aG claude-code nobody
check 'a member of the group may look' runuser -u nobody -- claudectl status >/dev/null
check 'and add tasks' runuser -u nobody -- claudectl task add --instance a 'say hi' >/dev/null

# As the agent: in its instance's cgroup, whatever its user is.
inside() { bash -c 'echo $$ >"$0/runner/cgroup.procs" && exec "$@"' "$(cgroup a)" "$@"; }
check 'an agent may look' inside claudectl status >/dev/null
api() { inside curl -s -o /run/answer -w '%{http_code}' --unix-socket /run/clauded/api.sock "$@"; }
same 'an agent that adds a task' "$(api -H 'content-type: application/json' -d '{"prompt":"say hi"}' http://x/api/v1/tasks)" 403
check 'gets a problem with a code' jq -e '.code and .detail and .status == 403' /run/answer
same 'an agent that stops its neighbour' "$(api -X POST http://x/api/v1/instances/a/stop)" 403
same 'TCP without a token' "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8888/api/v1/instances)" 401
bearer() { curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" http://127.0.0.1:8888/api/v1/instances; }
same 'with a wrong one' "$(bearer "$(tr a-f0-9 0-9a-f </var/lib/clauded/token)")" 401
same 'with the right one' "$(bearer "$(cat /var/lib/clauded/token)")" 200
same 'the store is for root alone' "$(stat -c '%a %U' /var/lib/clauded)" '700 root'
same "an instance's state is its own" "$(stat -c '%a %U' "$STATE/instances/a")" '700 claude-code'
refute 'nobody moves it away but root' runuser -u claude-code -- mv "$STATE/instances/a" "$STATE/instances/b"
install -d -o nobody "$STATE/worktrees/of-nobody"
refute "nor another user's worktree" runuser -u claude-code -- mv "$STATE/worktrees/of-nobody" "$STATE/worktrees/c"
check 'worktrees can be made there' runuser -u claude-code -- mkdir "$STATE/worktrees/d"
