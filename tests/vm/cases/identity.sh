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

# A secret reaches its agent, by systemd's hand, and nobody else; and an instance can be another user's.
useradd -m alice
install -d -o alice /home/alice/work
(umask 077 && head -c 20 /dev/urandom | base64 | tr -d '\n' >/etc/clauded/key)
secret=$(cat /etc/clauded/key)
cat >/usr/local/bin/keyed <<KEYED
#!/bin/sh
[ "\$(printf %s "\$THE_KEY" | sha256sum)" = "$(printf %s "$secret" | sha256sum)" ] && echo it has the key
KEYED
chmod 755 /usr/local/bin/keyed
cat >/etc/clauded/clauded.toml.d/60-case.toml <<'TOML'
[profiles.keyed]
agent = "command"
command = ["/usr/local/bin/keyed"]
credential-file = "/etc/clauded/key"
credential-variable = "THE_KEY"
[instances.keyed]
profile = "keyed"
[instances.hers]
user = "alice"
directory = "/home/alice/work"
TOML
systemctl daemon-reload
systemctl reload clauded.service
instance keyed hers
id=$(add keyed 'look')
ended "$id" succeeded
same 'the agent said' "$(of "$id" '.history[0].text')" 'it has the key'
handed=/run/credentials/claude-code@keyed.service/agent-credential
same 'the credential that was handed over' "$(cat $handed)" "$secret"
for f in $handed /etc/clauded/key; do for u in nobody alice; do refute "$u cannot read $f" runuser -u $u -- cat "$f"; done; done
refute 'an instance cannot read the file itself' runuser -u claude-code -- cat /etc/clauded/key
journalctl --sync
refute 'it is in no journal' grep -qF "$secret" <(journalctl -b)
refute "nor in a unit's properties" grep -qF "$secret" <(systemctl show claude-code@keyed)
refute 'nor kept by clauded or the runner' grep -rqF "$secret" "$STATE" /var/lib/clauded /run/systemd/generator

id=$(add hers $'write done.txt finished\nsay hi')
ended "$id" succeeded
for f in /home/alice/work/done.txt "$STATE/instances/hers"; do same "whose $f is" "$(stat -c %U "$f")" alice; done
same 'whose processes they are' "$(ps -o user= -p "$(pids hers | paste -sd,)" | sort -u)" alice
refute "she cannot look into another instance's state" runuser -u alice -- ls "$STATE/instances/a"
refute 'nor can the others into hers' runuser -u claude-code -- ls "$STATE/instances/hers"
