//! `claudectl check` with real agents on one repository: who touches the same files, whether it merges, what is free.

use crate::world::{World, kill};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// Instances on a repository `shop`, whose history changes `api/` and `client/` together.
fn shop(instances: &[&str]) -> World {
    let mut world = World::without_daemon("");
    let shop = world.path("shop");
    let git = |arguments: &[&str]| crate::worktrees::git(&shop, arguments);
    fs::create_dir_all(shop.join("api")).expect("made");
    fs::create_dir_all(shop.join("client")).expect("made");
    git(&["init", "--quiet"]);
    for n in 0..4 {
        fs::write(shop.join("api/a"), n.to_string()).expect("written");
        fs::write(shop.join("client/c"), n.to_string()).expect("written");
        fs::write(shop.join("lines"), "1\n2\n3\n4\n5\n6\n7\n8\n9\n").expect("written");
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "x"]);
    }
    let stanzas: String = instances.iter().map(|name| format!("[instances.{name}]\nrepository = \"shop\"\n")).collect();
    world.configure(&format!("[repositories.shop]\npath = \"{}\"\nfeatures = {{ auth = [\"auth/**\"] }}\n{stanzas}", shop.display()));
    world.start_daemon();
    for name in instances {
        world.ok(&["start", name]);
    }
    world
}

/// Gives an instance a task and waits until its agent has done the lines and waits.
fn begin(world: &World, instance: &str, lines: &str) -> String {
    let ready = world.path(&format!("{instance}.ready"));
    let task = world.add(instance, &format!("{lines}\nwrite {} x\nawait {}", ready.display(), world.path("go").display()));
    world.until(&format!("{} is there", ready.display()), || ready.exists());
    task
}

/// A check to which every runner has answered; on a slow machine that may take more than one.
fn answered(world: &World) -> Value {
    let mut check = Value::Null;
    world.until("all answer", || {
        check = world.json(&["check"]);
        check["running"].as_array().expect("a list").iter().all(|work| work["problem"].is_null())
    });
    check
}

fn id(task: &str) -> i64 {
    task.parse().expect("a number")
}

/// The pairs of a check: the tasks, the files, the merge, the conflicts.
fn pairs(check: &Value) -> Vec<(i64, i64, String, String, String)> {
    let join = |list: &Value| list.as_array().expect("a list").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let pair = |pair: &Value| {
        let number = |which: &str| pair[which]["task"].as_i64().expect("a number");
        (number("one"), number("other"), join(&pair["files"]), pair["merge"].as_str().expect("a word").to_owned(), join(&pair["conflicts"]))
    };
    check["overlaps"].as_array().expect("a list").iter().map(pair).collect()
}

#[test]
fn running_tasks_on_the_same_files_are_found_and_whether_they_merge() {
    let world = shop(&["a", "b", "c"]);
    let a = begin(&world, "a", "run sed -i 's/1/first/' lines\nwrite only-a x");
    let b = begin(&world, "b", "run sed -i 's/1/other/' lines\nwrite only-b x");
    let c = begin(&world, "c", "run sed -i 's/9/last/' lines && git add lines && git -c user.name=t -c user.email=t@example.invalid commit -qm mine");
    let check = answered(&world);
    let told = |one: &str, other: &str, merge: &str, conflicts: &str| (id(one), id(other), "lines".to_owned(), merge.to_owned(), conflicts.to_owned());
    assert_eq!(pairs(&check), [told(&a, &b, "conflict", "lines"), told(&a, &c, "clean", ""), told(&b, &c, "clean", "")], "{check}\n{}", world.log());
    let running = check["running"].as_array().expect("a list");
    assert_eq!(running.iter().map(|work| work["files"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(2), Some(1)], "{check}");
    assert!(running.iter().all(|work| work["problem"].is_null()), "{check}");
    let screen = world.ok(&["check", "--repository", "shop"]);
    assert!(screen.contains("conflicts in lines") && screen.contains("merges cleanly"), "{screen}");
    let shown = world.ok(&["task", "show", &c]);
    assert!(shown.contains(&format!("task {a} (a): lines; merges cleanly")) && !shown.contains("conflicts"), "{shown}");
    let shown = world.ok(&["task", "show", &b]);
    assert!(shown.contains(&format!("task {a} (a): lines; conflicts in lines")), "{shown}");
    assert!(world.fails(3, &["check", "--repository", "shp"]).contains("there is no [repositories.shp]; known: shop"));
    // Nobody was disturbed.
    fs::write(world.path("go"), "").expect("written");
    for task in [&a, &b, &c] {
        let ended = world.wait(task);
        assert_eq!((ended["state"].as_str(), ended["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{ended}");
    }
    assert!(world.ok(&["check"]).contains("no task runs on a repository"));
}

#[test]
fn who_does_not_answer_is_named_and_nobody_waits_for_them_for_long() {
    let world = shop(&["a", "b", "c"]);
    let a = begin(&world, "a", "write same 1");
    let b = begin(&world, "b", "write same 2");
    let c = begin(&world, "c", "write same 3");
    let runner = world.runner_pid("b");
    kill("STOP", runner);
    let begun = Instant::now();
    let check = world.json(&["check"]);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(pairs(&check), [(id(&a), id(&c), "same".to_owned(), "conflict".to_owned(), "same".to_owned())], "{check}");
    let silent: Vec<_> = check["running"].as_array().expect("a list").iter().filter(|work| !work["problem"].is_null()).collect();
    assert!(matches!(&silent[..], [work] if work["task"] == id(&b) && work["problem"] == "no answer within 5 s" && work["files"].is_null()), "{check}");
    let shown = world.ok(&["task", "show", &a]);
    assert!(shown.contains(&format!("task {c} (c): same; conflicts in same")) || shown.contains("not known"), "{shown}");
    kill("CONT", runner);
    // What it answers late is an answer to nobody.
    world.until("b answers again", || pairs(&world.json(&["check"])).len() >= 3);
    fs::write(world.path("go"), "").expect("written");
    for task in [&a, &b, &c] {
        assert_eq!(world.wait(task)["state"], "succeeded");
    }
}

#[test]
fn free_tasks_are_proposed_beside_what_runs_what_is_locked_and_each_other() {
    let world = shop(&["a"]);
    let running = begin(&world, "a", "write api/a changed");
    world.ok(&["lock", "acquire", "--repository", "shop", "docs/"]);
    let add = |files: &[&str]| {
        let files = files.iter().flat_map(|file| ["--file", file]);
        world.ok(&["task", "add", "--repository", "shop", "later"].into_iter().chain(files).collect::<Vec<_>>()).trim().to_owned()
    };
    let (same, coupled, locked, alone, after, unknown) =
        (add(&["api/*"]), add(&["client/x"]), add(&["docs/x.md"]), add(&["auth/login", "README"]), add(&["auth/"]), add(&[]));
    let check = answered(&world);
    let fates: Vec<(i64, Option<bool>, String)> = check["free"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|free| (free["task"].as_i64().expect("a number"), free["beside"].as_bool(), free["clash"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let holder = check["locks"][0]["owner"].as_str().expect("an owner").to_owned();
    let expected = [
        (id(&same), Some(false), format!("task {running} (a): both touch api/a")),
        (id(&coupled), Some(false), format!("task {running} (a): api/ and client/ change together (4 commits, 100 %)")),
        (id(&locked), Some(false), format!("a lock of {holder}: both touch docs/x.md")),
        (id(&alone), Some(true), String::new()),
        (id(&after), Some(false), format!("task {alone}: both touch auth/login")),
        (id(&unknown), None, String::new()),
    ];
    assert_eq!(fates, expected, "{check}");
    let found = &check["dependencies"][0];
    assert_eq!((found["one"].as_str(), found["other"].as_str(), found["commits"].as_u64()), (Some("api/"), Some("client/"), Some(4)), "{check}");
    let screen = world.ok(&["check"]);
    assert!(screen.contains("Change together") && screen.contains("docs/") && screen.contains("unknown: nobody has said which files"), "{screen}");
    // What was said of the files is kept, shown, and written out.
    assert_eq!(world.json(&["task", "show", &alone])["files"], serde_json::json!(["auth/login", "README"]));
    assert!(world.ok(&["task", "show", &alone]).contains("Files: auth/login, README"));
    let exported = world.ok(&["task", "export"]);
    assert!(exported.contains("files:") && exported.contains("auth/login"), "{exported}");
    let refused = world.fails(7, &["task", "add", "--file", "../out", "x"]);
    assert!(refused.contains("files: ") && refused.contains("has \"..\" in it"), "{refused}");
}
