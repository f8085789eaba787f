//! Where things are for `--user`: the caller's XDG directories.

use super::Paths;
use std::ffi::OsString;
use std::path::PathBuf;

impl Paths {
    /// The calling user's, for `clauded --user` and `claudectl --user`.
    pub fn user() -> Self {
        Self::of_user(|name| std::env::var_os(name))
    }

    /// The directories of `--user`, by the XDG base directory specification, which says to ignore relative ones.
    pub(crate) fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let absolute = |name| variable(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = absolute("HOME").unwrap_or_else(|| "/".into());
        let state = absolute("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
        let runtime = absolute("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", nix::unistd::getuid()).into());
        Self {
            config: absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("clauded/clauded.toml"),
            state: state.join("clauded"),
            runtime: runtime.join("clauded"),
            instances: state.join("claude-code"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_directories_follow_xdg_and_ignore_relative_ones() {
        let variables = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "XDG_CONFIG_HOME" => Some("relative".into()),
            _ => None,
        };
        let paths = Paths::of_user(variables);
        assert_eq!(paths.config.to_str(), Some("/home/u/.config/clauded/clauded.toml"));
        assert_eq!(paths.api_socket().to_str(), Some("/run/user/7/clauded/api.sock"));
        assert_eq!(paths.state.to_str(), Some("/home/u/.local/state/clauded"));
        assert_eq!(paths.instances.to_str(), Some("/home/u/.local/state/claude-code"));
    }
}
