# An instance without a directory fails at once, for good, with one clear line in the journal and in claudectl status;
# and names that are none are refused.
# lanes: container

refute 'it does not start' systemctl start claude-code@nowhere
same 'its exit status' "$(property claude-code@nowhere.service ExecMainStatus)" 78
same 'its state' "$(property claude-code@nowhere.service ActiveState)" failed
same 'restarts' "$(property claude-code@nowhere.service NRestarts)" 0
journalctl --sync
same 'lines of the runner that name the directory' "$(journalctl -b -o cat -u claude-code@nowhere -t clauded-runner | grep -c /var/lib/claude-code/worktrees/nowhere)" 1
shown() { claudectl status nowhere -o json | jq -r .status | grep -qF /var/lib/claude-code/worktrees/nowhere; }
wait_until 20 'claudectl status names the directory' shown
for bad in 'a--b' '..' 'a/b' 'naïve' "$(printf 'x%.0s' {1..200})"; do refute "the name $bad is refused" claudectl start "$bad"; done
refute 'a dot in front is refused by the runner' systemctl start claude-code@.hidden
same 'its exit status' "$(property claude-code@.hidden.service ExecMainStatus)" 78
