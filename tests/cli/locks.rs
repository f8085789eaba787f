//! The real CLI's hooks: what another agent has locked is not written, and the model is told who has it.

use crate::api::Api;
use crate::fleet::fleet;
use crate::reply::Reply;

#[test]
fn a_locked_file_is_not_written_though_all_permissions_are_bypassed() {
    let api = Api::new(Vec::new());
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    let repository = world.path("shop");
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"];
    for arguments in [&["init", "--quiet"][..], &["commit", "--quiet", "--allow-empty", "-m", "first"]] {
        std::fs::create_dir_all(&repository).expect("made");
        assert!(std::process::Command::new("git").args(identity).arg("-C").arg(&repository).args(arguments).status().expect("git runs").success());
    }
    let shop =
        format!("[repositories.shop]\npath = \"{}\"\n[instances.a]\nrepository = \"shop\"\n[instances.b]\nrepository = \"shop\"\n", repository.display());
    std::fs::write(world.path("clauded.toml.d/shop.toml"), shop).expect("written");
    crate::world::kill("HUP", world.daemon_pid());
    world.event(|e| e["kind"] == "config-reloaded");
    let (a, b) = (world.instance("a"), world.instance("b"));
    let write = |file: &std::path::Path| Reply::write(&file.display().to_string(), "mine\n");

    // The first holds what it has written, for it is not answered again.
    api.then(vec![write(&a.join("x.txt")), Reply::Never]);
    let first = world.add("a", "write it");
    api.await_questions(2);
    assert!(a.join("x.txt").exists(), "{}", api.asked()[1].body);

    api.then(vec![write(&b.join("x.txt")), write(&b.join("y.txt")), Reply::Text("x.txt is another's")]);
    let second = world.wait(&world.add("b", "write it too"));
    assert_eq!((second["state"].as_str(), second["history"][0]["text"].as_str()), (Some("succeeded"), Some("x.txt is another's")), "{second:#}");
    assert!(!b.join("x.txt").exists() && b.join("y.txt").exists());
    let told = api.asked()[3].body.to_string();
    assert!(told.contains(&format!("x.txt is held by a (task {first}) until that task ends")) && told.contains("work on other files meanwhile"), "{told}");
    // What was read was noted, by the session's name.
    let notes: Vec<_> = std::fs::read_dir(world.path("instances/instances/b/reads")).expect("noted").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(notes, [second["history"][0]["session"].as_str().expect("a session")]);

    world.ok(&["task", "cancel", &first]);
    world.wait(&first);
    assert_eq!(world.json(&["lock", "list"])["locks"], serde_json::json!([]));
}
