//! A person's own session of the real CLI, in a repository that `claudectl init` has prepared.

use crate::api::Api;
use crate::fleet::fleet;
use crate::program;
use crate::reply::Reply;
use crate::stage::{KEY, MODEL, environment};
use crate::world::World;
use std::path::Path;
use std::process::{Command, Stdio};

/// Says it to the CLI in that directory, as a person's shell would start it.
fn session(world: &World, api: &Api, directory: &Path) {
    let claudectl = Path::new(env!("CARGO_BIN_EXE_claudectl"));
    let path = format!("{}:/usr/bin:/bin", claudectl.parent().expect("a directory").display());
    let mut cli = Command::new(program::find().expect("looked for"));
    cli.args(["-p", "--model", MODEL, "--permission-mode", "bypassPermissions", "write it"]).current_dir(directory).env_clear();
    cli.env("PATH", path).env("HOME", world.path("")).env("ANTHROPIC_API_KEY", KEY).env("CLAUDED_SOCKET", world.path("run/api.sock"));
    cli.env("DISABLE_TELEMETRY", "1").env("DISABLE_AUTOUPDATER", "1").env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").envs(environment(api));
    let output = cli.stdin(Stdio::null()).output().expect("the CLI runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_persons_session_keeps_out_of_an_agents_files_and_goes_on_without_clauded() {
    let api = Api::new(Vec::new());
    let Some(mut world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    let shop = world.path("shop");
    std::fs::create_dir(&shop).expect("made");
    assert!(Command::new("git").args(["init", "--quiet"]).current_dir(&shop).status().expect("git runs").success());
    world.ok(&["init", &shop.display().to_string()]);
    world.instance("a");
    world.ok(&["lock", "acquire", "--repository", "shop", "x.txt"]);
    let lock = world.json(&["lock", "list"])["locks"][0]["id"].to_string();
    world.ok(&["lock", "transfer", &lock, "a"]);

    let write = |name: &str| Reply::write(&shop.join(name).display().to_string(), "mine\n");
    api.then(vec![write("x.txt"), write("y.txt"), Reply::Text("x.txt is another's")]);
    session(&world, &api, &shop);
    let told = api.asked()[1].body.to_string();
    assert!(told.contains("x.txt is held by a until"), "{told}");
    assert!(!shop.join("x.txt").exists() && shop.join("y.txt").exists());
    let locks = world.json(&["lock", "list"])["locks"].clone();
    let own: Vec<_> =
        locks.as_array().expect("a list").iter().filter(|lock| lock["instance"].is_null()).map(|lock| (&lock["place"], &lock["pattern"])).collect();
    assert_eq!(own, [(&"shop".into(), &"y.txt".into())], "{locks}");

    world.end_daemon("TERM");
    api.then(vec![write("x.txt"), Reply::Text("written")]);
    session(&world, &api, &shop);
    assert!(shop.join("x.txt").exists(), "{}", api.asked().last().expect("asked").body);
}
