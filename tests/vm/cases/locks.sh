# An agent reaches clauded from within its unit: its hooks take locks as it, and nobody else's.
# lanes: vm container

cat >/usr/local/bin/hooked <<'HOOKED'
#!/bin/bash
# Reads "FILE" and edits it as Claude Code would: the hook first.
read -r file
json() { printf '{"session_id":"s","cwd":"%s","tool_name":"Write","tool_input":{"file_path":"%s/%s"}}' "$PWD" "$PWD" "$file"; }
answer=$(json | claudectl hook pre-tool-use) || exit 3
case $answer in *deny*) echo "$answer"; exit 0 ;; esac
echo mine >"$file" && json | claudectl hook post-tool-use && echo written
while [ -e "$PWD/hold" ]; do sleep 0.1; done
HOOKED
chmod 755 /usr/local/bin/hooked
cat >/etc/clauded/clauded.toml.d/60-case.toml <<'TOML'
[profiles.hooked]
agent = "command"
command = ["/usr/local/bin/hooked"]
[teams.t.members.a]
profile = "hooked"
worktree = "shared"
[teams.t.members.b]
profile = "hooked"
worktree = "shared"
TOML
systemctl daemon-reload
systemctl reload clauded.service
tree=$STATE/worktrees/t
install -d -o claude-code -g claude-code "$tree"
systemctl start claude-code@t-a claude-code@t-b
runuser -u claude-code -- touch "$tree/hold"
first=$(add t-a 'x.txt')
held() { claudectl lock list -o json | jq -e '.locks | length == 1' >/dev/null; }
wait_until 60 'the first has the lock' held
same 'who holds what' "$(claudectl lock list -o json | jq -r '.locks[0] | .pattern + " " + .owner')" "x.txt t-a (task $first)"
second=$(add t-b 'x.txt')
ended "$second" succeeded
check 'the other is refused, and told who has it' grep -q "x.txt is held by t-a (task $first)" <(of "$second" '.history[0].text')
rm "$tree/hold"
ended "$first" succeeded
same 'nothing is held past its end' "$(claudectl lock list -o json | jq '.locks | length')" 0
check 'what was read is noted in its own state' test -s "$STATE/instances/t-a/reads/s"
same 'which is for nobody else' "$(stat -c %a "$STATE/instances/t-a/reads")" 700
# Away, clauded stops no agent.
systemctl stop clauded.socket clauded.service
code=0
runuser -u claude-code -- bash -c "cd $tree && echo y.txt | CLAUDED_WORKTREE=$tree CLAUDED_STATE=$STATE/instances/t-a /usr/local/bin/hooked" || code=$?
same 'a hook that reaches nobody says so and lets the tool go on' $code 3
