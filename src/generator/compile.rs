//! The pure part: a configuration to the drop-ins and links that say the same to systemd.

use super::output::{Content, Output};
use super::syntax::{plain, quoted};
use crate::config::{Api, Config, InstanceConfig, Problems, ProfileConfig, TeamConfig};
use crate::core::checkout::Origin;
use crate::core::ids::{FLEET_SLICE, InstanceName, UNIT_PREFIX};
use crate::core::limits::Limits;
use crate::core::team::{TeamName, role_slice};
use std::path::{Path, PathBuf};

/// The same name everywhere: of drop-ins with one name systemd takes the most specific alone (systemd.unit(5)), so the drop-in
/// of an instance stands in for that of the template, and says everything itself. Before 50, which systemctl set-property and
/// SetUnitProperties take: what was set at run time holds until the next boot, whoever reloads meanwhile.
const DROP_IN: &str = "40-clauded.conf";
/// The first line of each file.
const HEADING: &str = "# Made by clauded-generator from the configuration of clauded; see clauded.toml(5).\n";
/// The credential's name, in `$CREDENTIALS_DIRECTORY`.
const CREDENTIAL: &str = "agent-credential";
/// The API's TCP side. Its unit file listens where [`Api`]'s default does.
const TCP_SOCKET: &str = "clauded-tcp.socket";
/// Longest reason given to instances that may not start, in characters.
const REFUSAL_MAX: usize = 600;
/// Where packages and administrators put units, first found first.
const UNIT_DIRECTORIES: [&str; 4] = ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The service limits of a configured instance: its slice has them, and two bounds at one height would only confuse.
const LIFTED: &str = "MemoryMax=infinity\nMemoryHigh=infinity\nMemorySwapMax=infinity\nCPUQuota=\nTasksMax=infinity\n";

fn template_unit() -> String {
    format!("{UNIT_PREFIX}@.service")
}

/// The template unit's file, for links to it.
pub(super) fn template() -> PathBuf {
    let name = template_unit();
    let found = UNIT_DIRECTORIES.iter().map(|directory| Path::new(directory).join(&name)).find(|path| path.exists());
    // systemd goes by the link's name and the target's last part, so a target that is not there does no harm.
    found.unwrap_or_else(|| Path::new("/usr/lib/systemd/system").join(name))
}

/// All that follows from the configuration.
pub(super) fn compile(config: &Config, template: &Path) -> Vec<Output> {
    let mut outputs = vec![drop_in(FLEET_SLICE, &slice(&config.fleet.limits)), drop_in(&template_unit(), &unconfigured(config)), tcp_socket(&config.api)];
    for (name, instance) in &config.instances {
        outputs.push(drop_in(&name.slice(), &slice(&instance.limits)));
        outputs.push(drop_in(&name.unit(), &configured(config, name, instance)));
        // A team's target starts its members.
        let team = instance.member.as_ref().and_then(|member| config.teams.get(&member.team));
        if instance.autostart && team.is_none_or(|team| !team.autostart) {
            outputs.push(at_boot(&name.unit(), template.to_owned()));
        }
    }
    outputs.extend(config.teams.iter().flat_map(|(name, team)| team_units(config, name, team)));
    outputs
}

/// A team's target, with what starts it at boot, and the slices around those of its members.
fn team_units(config: &Config, name: &TeamName, team: &TeamConfig) -> Vec<Output> {
    let members: Vec<_> = config.members(name).map(|(member, _)| member.unit()).collect();
    // A target is after what it wants (systemd.target(5)): it is reached when all have started, or could not.
    let wants = if members.is_empty() { String::new() } else { format!("Wants={}\n", members.join(" ")) };
    let text = format!("{HEADING}[Unit]\nDescription=Claude Code team {name}\nDocumentation=man:clauded.toml(5)\n{wants}");
    let mut outputs = vec![Output { path: name.target().into(), content: Content::Text(text) }, drop_in(&name.slice(), &slice(&team.limits))];
    let roles = team.roles.iter().filter(|(_, of)| of.replicas.is_some());
    outputs.extend(roles.map(|(role, of)| drop_in(&role_slice(name, role), &slice(&of.role_limits))));
    if team.autostart {
        outputs.push(at_boot(&name.target(), Path::new("..").join(name.target())));
    }
    outputs
}

/// What `systemctl enable` would have made.
fn at_boot(unit: &str, target: PathBuf) -> Output {
    Output { path: Path::new("multi-user.target.wants").join(unit), content: Content::Link(target) }
}

/// What keeps every instance from starting, with the reason, which the runner repeats.
pub(super) fn refusal(problems: &Problems) -> Output {
    let first = problems.all().first().map(ToString::to_string).unwrap_or_default();
    let shown: String = first.chars().take(REFUSAL_MAX).collect();
    let dots = if shown.len() < first.len() { "…" } else { "" };
    let message = format!("the configuration is broken: {shown}{dots}; run: claudectl config check");
    drop_in(&template_unit(), &format!("[Service]\n{}", environment("CLAUDED_CONFIG_ERROR", &message)))
}

fn drop_in(unit: &str, text: &str) -> Output {
    let text = format!("{HEADING}{text}");
    Output { path: Path::new(&format!("{unit}.d")).join(DROP_IN), content: Content::Text(text) }
}

/// systemd listens where the configuration says, or the unit is masked, so that nobody takes it for being in force.
fn tcp_socket(api: &Api) -> Output {
    match api.listen {
        // The empty assignment forgets the address of the unit file (systemd.socket(5)).
        Some(address) => drop_in(TCP_SOCKET, &format!("[Socket]\nListenStream=\nListenStream={address}\n")),
        None => Output { path: TCP_SOCKET.into(), content: Content::Link("/dev/null".into()) },
    }
}

fn limits(limits: &Limits) -> String {
    limits.directives().iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

fn slice(of: &Limits) -> String {
    format!("[Slice]\n{}", limits(of))
}

fn environment(name: &str, value: &str) -> String {
    format!("Environment={}\n", quoted(&format!("{name}={value}")))
}

fn mounts(path: &Path) -> String {
    format!("[Unit]\nRequiresMountsFor={}\n", quoted(&path.to_string_lossy()))
}

/// The runner makes the worktree without asking clauded.
fn repository(config: &Config, instance: &InstanceConfig) -> String {
    config.origin(instance).iter().flat_map(Origin::variables).map(|(key, value)| environment(key, &value)).collect()
}

fn credential(profile: Option<&ProfileConfig>) -> String {
    let Some((profile, file)) = profile.and_then(|profile| profile.credential_file.as_ref().map(|file| (profile, file))) else { return String::new() };
    let variable = environment("CLAUDED_CREDENTIAL_VARIABLE", &profile.credential_variable);
    format!("LoadCredential={CREDENTIAL}:{}\n{variable}", plain(&file.to_string_lossy()))
}

fn unconfigured(config: &Config) -> String {
    let root = &config.fleet.worktree_root;
    format!(
        "{}[Service]\n{}{}{}",
        mounts(root),
        environment("CLAUDED_WORKTREE_ROOT", &root.to_string_lossy()),
        credential(config.profiles.get(&config.defaults.profile)),
        limits(&config.defaults.limits),
    )
}

fn configured(config: &Config, name: &InstanceName, instance: &InstanceConfig) -> String {
    let directory = &instance.directory;
    let user = instance.user.as_ref().map(|user| format!("User={user}\n")).unwrap_or_default();
    // Stopped and started again with its team's target; by itself, it may be in any state.
    let team = instance.member.as_ref().map(|member| format!("PartOf={}\n", member.team.target())).unwrap_or_default();
    format!(
        "{}{team}[Service]\n{}{}{user}{}{}# Its limits are those of {}.\n{LIFTED}",
        mounts(directory),
        environment("CLAUDED_WORKTREE_ROOT", &config.fleet.worktree_root.to_string_lossy()),
        environment("CLAUDED_DIRECTORY", &directory.to_string_lossy()),
        repository(config, instance),
        credential(config.profiles.get(&instance.profile)),
        name.slice(),
    )
}
