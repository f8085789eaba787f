//! The tasks: shell scripts that lock files, change them, and say beside the repository what they have changed.

use crate::kills::Random;
use crate::world::World;

pub(super) const FILES: [&str; 8] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];

/// What a task does with its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Leaves it to the runner.
    Leaves,
    /// Commits it.
    Commits,
    /// Commits some, stages some and changes it again, makes a new file.
    Mixes,
    /// Dies in the middle, the first time.
    Dies,
    /// Fails when it has changed something.
    Fails,
    /// Never passes the check.
    Breaks,
    /// Passes the check when it is told that it has not.
    Mends,
    /// Changes a file without a lock on it.
    Sneaks,
}

const KINDS: [Kind; 14] = [
    Kind::Leaves,
    Kind::Leaves,
    Kind::Leaves,
    Kind::Commits,
    Kind::Commits,
    Kind::Commits,
    Kind::Mixes,
    Kind::Mixes,
    Kind::Mixes,
    Kind::Dies,
    Kind::Fails,
    Kind::Breaks,
    Kind::Mends,
    Kind::Sneaks,
];

/// A task as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) after: Vec<String>,
    /// Whether it is done even if one of those fails.
    pub(super) released: bool,
}

/// Adds a task that comes after some of those before it.
pub(super) fn add(world: &World, before: &[Task], random: &mut Random) -> Task {
    let kind = random.of(&KINDS);
    let mut files = FILES;
    random.shuffle(&mut files);
    let files = &files[..1 + random.below_len(3)];
    let script = script(world, kind, files);
    // Those of late, which may not have ended yet.
    let late = &before[before.len().saturating_sub(12)..];
    let needs = if late.is_empty() || random.chance(50) { 0 } else { 1 + random.below_len(3) };
    let mut after: Vec<String> = (0..needs).map(|_| late[random.below_len(late.len())].id.clone()).collect();
    after.sort();
    after.dedup();
    let released = random.chance(60);
    let priority = format!("--priority={}", i64::try_from(random.below(21)).expect("few") - 10);
    let title = format!("{kind:?} {}", files.join(" "));
    let mut arguments = vec!["task".to_owned(), "add".into(), "--repository".into(), "shop".into(), "--title".into(), title, priority];
    if random.chance(20) {
        arguments.extend(["--instance".into(), format!("i{}", 1 + random.below(super::INSTANCES))]);
    }
    loop {
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let list = after.join(",");
        if !after.is_empty() {
            arguments.extend(["--after", &list, "--after-failed", if released { "release" } else { "fail" }]);
        }
        arguments.push(&script);
        let output = world.ctl(&arguments);
        if output.status.success() {
            let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            return Task { id, kind, after, released };
        }
        // What has failed already cannot be come after.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let gone = after.iter().position(|id| said.contains(&format!("after: task {id} ")));
        after.remove(gone.unwrap_or_else(|| panic!("{said}")));
    }
}

/// Locks its files, all or none, and holds for each a lock of the kernel's own (flock(2)) beside clauded's: if another task has that,
/// clauded's was given twice. The same for the task itself: if that is locked, it runs twice. A process that inherits these locks
/// keeps them, so what outlives its attempt shows too.
const BEGIN: &str = r#"
t=$CLAUDED_TASK a=$CLAUDED_ATTEMPT
# Any other end of flock(1) than its own 99 is no answer: it may itself have been killed.
witness() { until flock -n -E 99 $1; do [ $? != 99 ] || { echo "$2: $a beside $(tail -n1 $papers/$2.lock)" >>$papers/violations; exit 1; }; done; echo $a >&$1; }
exec 3>>$papers/task-$t.lock; witness 3 task-$t
# Asked again while clauded is away (5), when the time is over (6), when it was killed (137).
ask() { while :; do $ctl lock "$@" >/dev/null 2>>$papers/asked; s=$?; case $s in 5|6|137) sleep 0.05;; *) return $s;; esac; done; }
acquire() { ask acquire --wait=20s --reason "task $t" $1; }
wrote() { echo "$t $a $1" >>$papers/writes; }
append() { echo "task $t attempt $a $1" >>$2 && wrote $1; }
commit() { $git add --all && $git commit --quiet --message "by the agent of $a" && committed; }
# A git that was killed has no answer.
committed() { head=$($git rev-parse HEAD) && echo "$t $head" >>$papers/commits; }
pause() { sleep 0.$(( $$ % 2 ))$(( ($$ / 2) % 9 + 1 )); }
# One that a circle of waits has refused gives all back, and begins anew.
until n=4; for f in $files; do acquire $f && eval "exec $n>>$papers/$f.lock" && witness $n $f && n=$((n+1)) || break; done; [ $n = $((4 + count)) ]; do
  echo "$a gives back" >>$papers/circles; exec 4>&- 5>&- 6>&-; ask release --all; pause
done
"#;

fn script(world: &World, kind: Kind, files: &[&str]) -> String {
    let (papers, ctl) = (world.path("papers").display().to_string(), env!("CARGO_BIN_EXE_claudectl"));
    let git = "git -c user.name=agent -c user.email=agent@example.org";
    let mut script = format!("papers={papers} ctl={ctl} git='{git}' files='{}' count={}", files.join(" "), files.len());
    script.push_str(BEGIN);
    for file in files {
        script.push_str(&format!("append {file} {file}; pause\n"));
        if kind == Kind::Dies {
            script.push_str("[ -e $papers/died-$t ] || { : >$papers/died-$t; kill -9 $$; }\n");
        }
    }
    let own = "acquire new-$t; append own new-$t";
    script.push_str(&match kind {
        Kind::Leaves | Kind::Dies => format!("{own}; pause\n"),
        Kind::Commits => format!("commit; {own}; pause; commit\n"),
        Kind::Mixes => format!("commit; {own}; $git add new-$t; append more new-$t; append last {}; pause\n", files[0]),
        Kind::Fails => format!("{own}; pause; exit 3\n"),
        Kind::Breaks => "acquire broken-$t; append broken broken-$t\n".to_owned(),
        Kind::Mends => "acquire broken-$t; [ -e $papers/told-$t ] && rm -f broken-$t || { : >$papers/told-$t; echo x >broken-$t; }\n".to_owned(),
        Kind::Sneaks => "append sneaked bare-$t\n".to_owned(),
    });
    // What the check says comes after it.
    script.push_str("exit 0\n");
    script
}
