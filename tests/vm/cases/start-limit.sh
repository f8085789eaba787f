# On a full disk clauded tries on, and is back by itself when there is room. A wrong configuration with a client that waits at
# the socket is no reason to start for ever.
# lanes: container
# releases: bookworm

systemctl stop clauded.service
mount -t tmpfs -o size=64k,mode=0700 none /var/lib/clauded
fallocate -l 64k /var/lib/clauded/fill
systemctl start --no-block clauded.service
tries() { [ "$(property clauded.service NRestarts)" -ge 16 ]; }
wait_until 60 'more tries than the limit has' tries
refute 'it has given up' systemctl -q is-failed clauded.service
mount -o remount,size=64m /var/lib/clauded
rm /var/lib/clauded/fill
answers() { claudectl status >/dev/null 2>&1; }
wait_until 30 'it is back' answers

echo 'x = 1' >/etc/clauded/clauded.toml.d/60-case.toml
systemctl stop clauded.service
refute 'a client is answered' answers
closed() { ! systemctl -q is-active clauded.socket; }
wait_until 60 'the socket has given up' closed
same 'why' "$(property clauded.socket Result)" service-start-limit-hit
