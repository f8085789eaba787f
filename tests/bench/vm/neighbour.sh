# What an instance feels whose neighbour runs away at 200 MB/s, beside one whose neighbour does the same work in constant
# memory. The machine has one processor, which the two share. A step of the meter takes 1 MiB and writes it; $TB_OUT/figures.json.
# lanes: vm
# vm-releases: bookworm
# timeout: 600

cat >/usr/local/bin/meter <<'PERL'
#!/usr/bin/perl
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
my @ms;
for (1 .. 2000) {
  my $begun = clock_gettime(CLOCK_MONOTONIC);
  my $block = "x" x (1 << 20);
  push @ms, (clock_gettime(CLOCK_MONOTONIC) - $begun) * 1000;
}
@ms = sort { $a <=> $b } @ms;
printf "{\"p50\": %.3f, \"p99\": %.3f}\n", $ms[@ms / 2], $ms[@ms * 99 / 100];
PERL
cat >/usr/local/bin/runaway <<'PERL'
#!/usr/bin/perl
# 200 MB/s, or what the machine gives, until the kernel ends it.
use Time::HiRes qw(sleep);
my @all;
while (1) { push @all, "x" x (4 << 20); sleep 0.02 }
PERL
cat >/usr/local/bin/constant <<'PERL'
#!/usr/bin/perl
use Time::HiRes qw(sleep);
my $block;
while (1) { $block = "x" x (4 << 20); undef $block; sleep 0.02 }
PERL
chmod 755 /usr/local/bin/{meter,runaway,constant}
cat >/etc/clauded/clauded.toml.d/95-bench.toml <<'TOML'
[profiles.meter]
agent = "command"
command = ["/usr/local/bin/meter"]
[profiles.runaway]
agent = "command"
command = ["/usr/local/bin/runaway"]
[profiles.constant]
agent = "command"
command = ["/usr/local/bin/constant"]
[instances.meter]
profile = "meter"
[instances.eater]
profile = "runaway"
[instances.steady]
profile = "constant"
TOML
systemctl reload clauded.service
instance meter eater steady
claudectl limit eater --memory 150M --memory-high 150M --swap 0

measure() {
  local id
  id=$(add meter go)
  ended "$id" succeeded >&2
  of "$id" '.history[0] | (.text | fromjson) + {memory_stall: (.memory_stall_seconds * 1000), cpu_stall: (.cpu_stall_seconds * 1000)}'
}
alone=$(measure)
work=$(add steady go); wait_running "$work"
fair=$(measure)
claudectl task cancel "$work" >/dev/null
first=$(add eater go)
for _ in $(seq 60); do last=$(add eater go); done
wait_running "$first"
beside=$(measure)
refute 'they were too few' test "$(of "$last" .state)" = failed
echo "alone $alone; beside the same work in constant memory $fair; beside the runaway $beside"
between 'kills by the kernel' "$(stat_of "$(slice eater)/memory.events" oom_kill)" 2 61
jq -n --argjson alone "$alone" --argjson fair "$fair" --argjson beside "$beside" '{neighbour: {alone: $alone, constant: $fair, runaway: $beside}}' >"$TB_OUT/figures.json"
