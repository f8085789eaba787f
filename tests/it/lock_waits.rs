//! Who waits for a lock, how long one lasts, and who shares it or takes it away.

use crate::locks::{go, locks, said, shop, take, waiting, with};
use crate::world::{DEADLINE, World};
use std::process::{Child, Stdio};
use std::time::Instant;

const CTL: &str = env!("CARGO_BIN_EXE_claudectl");

/// A person's `claudectl lock acquire … --wait`, whose standard error is a file.
fn waits(world: &World, file: &str, notes: &str) -> Child {
    let notes = std::fs::File::create(world.path(notes)).expect("made");
    let mut command = world.ctl_command(&["lock", "acquire", "--repository", "shop", file, "--wait=5min"]);
    command.stdout(Stdio::null()).stderr(notes).spawn().expect("claudectl runs")
}

/// What is in a file of this world, once that is.
fn until(world: &World, file: &str, has: &str) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string(world.path(file)).unwrap_or_default();
        if text.contains(has) {
            return text;
        }
        assert!(Instant::now() < end, "{file} has no {has:?}: {text}\n{}", world.log());
        std::thread::yield_now();
    }
}

/// A line of c's shell that waits for a file.
fn awaits(world: &World, file: &str) -> String {
    format!("while [ ! -e {} ]; do sleep 0.05; done", world.path(file).display())
}

fn touch(world: &World, file: &str) {
    std::fs::write(world.path(file), "").expect("written");
}

/// What whoever runs the tests is called.
fn me(world: &World) -> String {
    locks(world).into_iter().map(|(_, owner)| owner).find(|owner| !owner.contains("(task")).expect("a lock of a person's")
}

fn took(world: &World, instance: &str, pattern: &str) {
    let pattern = format!(" on {pattern} in ");
    world.event(|e| e["kind"] == "lock-acquired" && e["instance"] == instance && e["message"].as_str().is_some_and(|m| m.contains(&pattern)));
}

#[test]
fn who_waits_is_told_its_own_place_in_line_and_who_has_the_lock() {
    let world = shop();
    let holder = world.add("a", &format!("edit x.rs mine\nawait {}", go(&world)));
    took(&world, "a", "x.rs");
    let first = world.add("c", &format!("{CTL} lock acquire x.rs --wait=5min 2>{}; {}", world.path("first").display(), awaits(&world, "end")));
    waiting(&world, 1);
    let mut person = waits(&world, "x.rs", "second");
    waiting(&world, 2);
    let (a, c) = (format!("x.rs is held by a (task {holder}) until that task ends"), format!("c (task {first})"));
    until(&world, "first", &format!("place 1 in line: {a}\n"));
    until(&world, "second", "place 2 in line");
    touch(&world, "go");
    until(&world, "second", "place 1 in line");
    assert_eq!(locks(&world), [("x.rs".to_owned(), c.clone())]);
    touch(&world, "end");
    assert!(person.wait().expect("ended").success());
    // Once for each change, however often it was looked at.
    let after = format!("{c} waits for x.rs and comes first");
    let told = [format!("waits: {a}; {after}"), format!("place 2 in line: {a}; {after}"), format!("place 1 in line: x.rs is held by {c} until that task ends")];
    assert_eq!(until(&world, "second", "place 1").lines().collect::<Vec<_>>(), told.map(|line| format!("claudectl: {line}")));
    assert!(!until(&world, "first", "place 1").contains("place 2"), "others' places are not its own");
    world.wait(&first);
}

#[test]
fn a_task_keeps_its_locks_past_their_time_and_a_person_who_went_away_does_not() {
    let world = with("warn", "[locks]\nttl = \"2s\"\n");
    let task = world.add("a", &format!("edit x.txt 1\nawait {}", go(&world)));
    took(&world, "a", "x.txt");
    take(&world, &["y.txt", "--ttl", "5min"]);
    let next = world.add("c", &format!("{CTL} lock acquire y.txt --wait=5min; {}", awaits(&world, "end")));
    waiting(&world, 1);
    let ends = || -> jiff::Timestamp {
        let table = world.json(&["lock", "list"]);
        let lock = table["locks"].as_array().expect("a list").iter().find(|lock| lock["pattern"] == "x.txt").expect("a has it").clone();
        lock["expires"].as_str().expect("a time").parse().expect("a time")
    };
    let first = ends();
    // The person says once more how long, and never comes back.
    assert_eq!(take(&world, &["y.txt", "--ttl", "2s"])["result"], "unchanged");
    took(&world, "c", "y.txt");
    let gone = world.event(|e| e["kind"] == "lock-released" && e["cause"] == "expired");
    assert!(gone["message"].as_str().is_some_and(|message| message.contains("y.txt")) && gone["instance"].is_null(), "{gone:#}");
    let now = jiff::Timestamp::now();
    assert!(first < now, "the time that x.txt was given for at first is over");
    assert!(ends() > first);
    assert_eq!(locks(&world), [("x.txt".to_owned(), format!("a (task {task})")), ("y.txt".to_owned(), format!("c (task {next})"))]);
    touch(&world, "go");
    touch(&world, "end");
    assert_eq!((&world.wait(&task)["state"], &world.wait(&next)["state"]), (&"succeeded".into(), &"succeeded".into()));
    assert_eq!(locks(&world), []);
}

#[test]
fn those_who_only_read_share_a_lock_and_who_writes_waits_for_all_of_them() {
    let world = shop();
    assert_eq!(take(&world, &["docs/", "--shared"])["mode"], "shared");
    let reader = world.add("c", &format!("{CTL} lock acquire docs/ --shared; {}", awaits(&world, "end")));
    took(&world, "c", "docs/");
    let table = world.json(&["lock", "list"]);
    let modes: Vec<_> = table["locks"].as_array().expect("a list").iter().map(|lock| (&lock["pattern"], &lock["mode"])).collect();
    assert_eq!(modes, [(&"docs/".into(), &"shared".into()), (&"docs/".into(), &"shared".into())]);
    let refused = world.wait(&world.add("a", "run mkdir -p docs\nedit docs/x.txt no"));
    assert!(said(&refused).contains("docs/ is held by") && said(&refused).contains(&format!("c (task {reader})")), "{}", said(&refused));
    // Nor does one of them write while the other reads.
    let refused = world.fails(7, &["lock", "acquire", "--repository", "shop", "docs/x.txt"]);
    assert!(refused.contains(&format!("docs/ is held by c (task {reader})")), "{refused}");
    let mut person = waits(&world, "docs/", "writer");
    waiting(&world, 1);
    touch(&world, "end");
    assert!(person.wait().expect("ended").success());
    let table = world.json(&["lock", "list"]);
    assert_eq!((table["locks"].as_array().map(Vec::len), table["locks"][0]["mode"].as_str()), (Some(1), Some("exclusive")), "{table:#}");
}

#[test]
fn an_operator_gives_back_by_force_what_another_has() {
    let world = shop();
    let task = world.add("a", &format!("edit x.txt 1\nawait {}", go(&world)));
    took(&world, "a", "x.txt");
    let id = world.json(&["lock", "list"])["locks"][0]["id"].to_string();
    assert!(world.fails(4, &["lock", "release", "--id", &id]).contains("--force"));
    assert_eq!(locks(&world).len(), 1);
    assert_eq!(world.ok(&["lock", "release", "--id", &id, "--force"]).trim(), "one lock released");
    assert_eq!(locks(&world), []);
    world.event(|e| e["kind"] == "lock-released" && e["cause"] == "forced" && e["instance"] == "a");
    let other = world.wait(&world.add("b", "edit x.txt 2"));
    assert!(!said(&other).contains("hook error") && world.path("worktrees/b/x.txt").exists(), "{other:#}");
    touch(&world, "go");
    assert_eq!(world.wait(&task)["state"], "succeeded");
}

#[test]
fn two_who_wait_for_each_other_are_told_and_one_gives_up() {
    let world = shop();
    let script = format!(
        "{CTL} lock acquire p.txt; {}; {CTL} lock acquire q.txt --wait=5min 2>{} || echo status $?; {}",
        awaits(&world, "go"),
        world.path("refused").display(),
        awaits(&world, "end")
    );
    let task = world.add("c", &script);
    took(&world, "c", "p.txt");
    take(&world, &["q.txt"]);
    let mut person = waits(&world, "p.txt", "person");
    waiting(&world, 1);
    touch(&world, "go");
    let told = until(&world, "refused", "in a circle");
    assert!(told.contains(&format!("c (task {task}) waits for ")) && told.contains("your wait was given up. Release what you hold"), "{told}");
    let circle = format!("c (task {task}) waits for root waits for c (task {task})").replace("root", &me(&world));
    for (kind, whom) in [("lock-refused", Some("c")), ("lock-deadlock", None)] {
        world.event(|e| {
            let told = e["message"].as_str().is_some_and(|message| message.contains(&circle));
            told && e["kind"] == kind && e["cause"] == "deadlock" && e["instance"].as_str() == whom
        });
    }
    // The person's wait goes on, and gets it when the agent is through.
    assert_eq!(waiting(&world, 1)[0]["pattern"], "p.txt");
    touch(&world, "end");
    assert!(person.wait().expect("ended").success());
    let shown = world.wait(&task);
    assert!(said(&shown).contains("status 7"), "{shown:#}");
    let mut left: Vec<_> = locks(&world).into_iter().map(|(file, _)| file).collect();
    left.sort();
    assert_eq!(left, ["p.txt", "q.txt"]);
}
